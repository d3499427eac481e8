"""Hook for steps of learning-rate schedulers, except the one at their creation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradlab.audit.hooks.patching import Patches
    from gradlab.audit.recording.recorder import Recorder


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Record steps of schedulers for their optimizer."""
    from torch.optim import lr_scheduler

    def before(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        caller = sys._getframe(2).f_code.co_name  # noqa: SLF001 - only reads a function's name
        optimizer = getattr(args[0], "optimizer", None)
        if caller != "_initial_step" and optimizer is not None:
            for recorder in recorders:
                recorder.scheduled(args[0], optimizer)

    for kind in vars(lr_scheduler).values():
        if isinstance(kind, type) and issubclass(kind, lr_scheduler.LRScheduler):
            patches.around(kind, "step", before)
