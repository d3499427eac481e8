"""Backward passes: torch.autograd.backward, which Tensor.backward calls.

torch.autograd.grad and torch.func leave `.grad` alone, and are none of our business.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

from gradlab.audit.hooks.untraced import untraced

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.audit.hooks.patching import Patches
    from gradlab.audit.recording.recorder import Recorder

SHORT = 16  # letters of a trace


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Tell when a backward pass begins and ends, and whether its loss was scaled by a GradScaler."""
    from torch import autograd
    from torch.amp.grad_scaler import GradScaler

    scaled: list[None] = []  # something, where a GradScaler has scaled the next loss

    def scales(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        scaled[:] = [None] if args[0].is_enabled() else []

    patches.around(GradScaler, "scale", scales)
    patches.replace(autograd, "backward", lambda backward: _heard(backward, recorders, scaled))


def _heard(backward: Callable[..., Any], recorders: list[Recorder], scaled: list[None]) -> Callable[..., Any]:
    """Return what tells of a backward pass; of a usual one it notes by itself that it was."""

    def begins(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for recorder in recorders:
            recorder.backward_begins(args, kwargs, scaled=bool(scaled))

    def ends() -> None:
        for recorder in recorders:
            recorder.backward_ends()
        scaled.clear()

    untraced(begins), untraced(ends)

    def call(*args: Any, **kwargs: Any) -> Any:  # pragma: no cover - it runs under another file name
        if len(recorders) == 1 and (alone := recorders[0].alone) is not None:
            recorder, first, me, short = recorders[0], alone.first(), get_ident(), len(alone.letters) < SHORT
            if (  # no call from here on until the pass is noted, for another thread may begin one at a call
                recorder.thread is None
                and short
                and first is not None
                and first.grad is None
                and not (alone.held or alone.in_step or alone.several)
            ):
                recorder.depth, recorder.calm, recorder.thread = 1, alone, me
                try:
                    return backward(*args, **kwargs)
                finally:
                    reached = alone.first()
                    if recorder.calm is alone and reached is not None and reached.grad is not None:
                        recorder.depth, recorder.calm, recorder.thread = 0, None, None
                        scaled.clear()
                        recorder.history.backwards += 1
                        alone.held = True
                        alone.letters += "B"
                    else:
                        ends()
        try:
            begins(args, kwargs)
            return backward(*args, **kwargs)
        finally:
            ends()

    return call
