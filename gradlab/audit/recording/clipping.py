"""Clipping: which optimizers a call concerns, whether it finds a gradient, and whether it shortens anything."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit.history.history import ClippedNothing
from gradlab.audit.history.trace import Event
from gradlab.audit.places import user_location

if TYPE_CHECKING:
    from torch import Tensor

    from gradlab.audit.history.history import History
    from gradlab.audit.recording.watched import WatchedOptimizer

LOGGED = 1e4  # a bound from here on only logs the norm, even of nothing
MOST_LINES = 64


class Clip(NamedTuple):
    """A call that clips gradients."""

    parameters: list[Tensor]
    bound: Any  # a number, usually
    norm: Any = None  # a tensor with the norm of all gradients, if known

    def exceeds(self, *, measured: bool) -> bool | None:
        """Say whether it shortens anything; None if there is nothing to shorten, or if the answer is slow."""
        import torch

        bound, norm = float(self.bound), self.norm
        if norm is None and measured:
            grads = [p.grad for p in self.parameters if type(p.grad) is torch.Tensor and not p.grad.is_sparse]
            with torch.no_grad():
                norms: Any = torch._foreach_norm(grads, math.inf) if grads else []  # noqa: SLF001 - as in torch itself
            norm = max((each.item() for each in norms), default=None)
        elif type(norm) is torch.Tensor and (norm.is_cpu or measured):
            norm = None if norm.is_cuda and torch.cuda.is_current_stream_capturing() else norm.item()
        elif not isinstance(norm, float | int):
            return None
        return None if not norm else not norm <= bound


def add_clip(history: History, optimizers: list[WatchedOptimizer], clip: Clip) -> None:
    """Record a call that clips.

    An optimizer counts as clipped if its clipped parameters have a gradient, or if none of its parameters has one yet.
    """
    clipped = {id(p) for p in clip.parameters}
    finds_gradient = any(p.grad is not None for p in clip.parameters)
    own = [each for each in optimizers if any(id(p) in clipped for p in each.parameters)]
    early = [] if finds_gradient else [each for each in own if not each.finds_gradient()]
    for each in own if finds_gradient else early:
        each.window.add(Event.CLIPPED)
    for each in own if finds_gradient else ():
        if not each.history.clips_shortened:
            _check(each, clip)
    if finds_gradient or early or (clipped and not any(each.finds_gradient() for each in optimizers)):
        return
    _add_nothing(history, optimizers, clip)


def _check(watched: WatchedOptimizer, clip: Clip) -> None:
    exceeds = clip.exceeds(measured=watched.window.measurement is not None)
    if exceeds is not None:
        watched.history.clips_checked += 1
        watched.history.clips_shortened += exceeds


def _add_nothing(history: History, optimizers: list[WatchedOptimizer], clip: Clip) -> None:
    place, known = user_location(), history.clipped_nothing
    if place is None or (isinstance(clip.bound, float | int) and clip.bound >= LOGGED):
        return
    if place in known:
        known[place] = known[place]._replace(times=known[place].times + 1)
    elif len(known) < MOST_LINES:
        update = 1 + max((each.history.updates for each in optimizers), default=0)
        known[place] = ClippedNothing(update, 1, empty=not clip.parameters)
