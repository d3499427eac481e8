"""The fast path: a copy of what usual updates change (see `fast_paths`)."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit.history.trace import gathered_in
from gradlab.audit.recording.loss import loss_of_pass
from gradlab.audit.recording.watched import gradients_in

if TYPE_CHECKING:
    from torch import Tensor

    from gradlab.audit.history.loss import Loss
    from gradlab.audit.recording.watched import Grads, WatchedOptimizer

CERTAIN = 64  # passes in a row that reached the probe before the other gradients are no longer looked at
CLOSED = 0  # instead of a thread


class FastPass(NamedTuple):
    """A running backward pass."""

    grads: Grads | None = None  # at its start; None if no parameter had a gradient
    loss: Loss | None = None  # if it was read


USUAL_PASS = FastPass()


class FastPath:
    """What usual updates of the only optimizer change, while the next update is not measured.

    Attributes:
        busy: the thread that runs a backward pass, or None; CLOSED while the recorder may change the state.
        running: the running backward pass, if it began on the fast path.
        left: usual updates before one that the recorder must record.
        loss: the loss of the window, if read.
        certain: passes in a row that found a gradient and changed the probe's.
    """

    __slots__ = (
        "accumulates",
        "busy",
        "by_loader_before",
        "certain",
        "fetched_before",
        "has_gradient",
        "history",
        "left",
        "letters",
        "loss",
        "loss_counts",
        "optimizer",
        "probe",
        "running",
        "step_depth",
        "step_without_gradient",
        "stretch",
        "trace",
        "usual_loss",
        "watched",
    )

    def __init__(self, watched: WatchedOptimizer, probe: Tensor, losses: list[Loss]) -> None:
        self.busy: int | None = CLOSED
        self.running: FastPass | None = None
        self.watched, self.history, self.optimizer = watched, watched.history, watched.optimizer
        self.probe = weakref.ref(probe)  # a parameter that shows whether there is a gradient
        self.accumulates = watched.accumulates
        self.stretch = self.history.stretches[-1]  # of the last update, whose window had these losses
        self.trace = self.stretch.trace
        self.left = watched.next_measured - 2 - self.history.updates
        self.loss_counts = self.history.losses.get((gathered_in(self.trace), losses[0]), []) if losses else []
        self.usual_loss = losses[0] if self.loss_counts else None

    def open(self, busy: int | None) -> None:
        """Copy the state, while a thread is `busy` with a backward pass, or None is."""
        watched, window = self.watched, self.watched.window
        self.letters = window.letters
        self.fetched_before, self.by_loader_before = window.fetched_before, window.by_loader_before
        self.loss = window.losses[0] if window.losses else None
        self.certain = watched.certain
        self.has_gradient, self.step_depth = watched.has_gradient, watched.step_depth
        self.step_without_gradient = watched.step_without_gradient
        self.busy = busy

    def close(self) -> None:
        """Write the state back."""
        watched, window = self.watched, self.watched.window
        window.fetched_before, window.by_loader_before = self.fetched_before, self.by_loader_before
        window.letters = self.letters
        window.losses = [] if self.loss is None else [self.loss]
        watched.certain = self.certain
        watched.has_gradient, watched.step_depth = self.has_gradient, self.step_depth
        watched.step_without_gradient = self.step_without_gradient
        self.busy = CLOSED

    def start_pass(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, scaled: bool, empty: bool) -> FastPass:
        """Return a backward pass with these arguments, which finds no gradient if `empty`."""
        loss = None
        if self.accumulates and self.loss is None:
            loss = loss_of_pass(args, kwargs, scaled=scaled)
        return FastPass(None if empty or self.certain >= CERTAIN else gradients_in(self.watched.groups), loss)


def fast_path_of(watched: WatchedOptimizer, losses: list[Loss]) -> FastPath | None:
    """Return the fast path after an update with these losses, or None if the next one must be recorded in full."""
    probe = watched.probe
    if watched.window.measurement or watched.window.asks_for_lines or watched.checks.silent or probe is None:
        return None
    return FastPath(watched, probe, losses)
