"""What may keep a mode from taking effect fully, above all one that leaves steps out, such as accumulate:4."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from gradlab.comparison.refusals import trainer

if TYPE_CHECKING:
    from gradlab.audit.hooks.patching import Patches
    from gradlab.comparison.tracked import TrackedOptimizers
    from gradlab.modes import Mode

EPOCHS = "windows continue across epochs"
PER_BATCH = "a learning-rate scheduler steps after every batch, also when the update is left out"
SCALER = "the GradScaler may skip an update within a window"
CHANGED = "the script clips or changes gradients within a window"
BEFORE_STEP = "the script changes .grad before its step"
OTHERS = "the losses of the other optimizers are divided, too"


class Doubts:
    """Collects doubts while the script runs."""

    def __init__(self, mode: Mode | None, only: int | None) -> None:
        self._mode, self._only = mode, only
        self._leaves_out = mode is not None and mode.every > 1
        self._scheduled: dict[int, int] = {}  # steps of schedulers, by id of their optimizer
        self._has_scaler, self._trainer = False, ""
        self._most_calls = 0

    def install(self, patches: Patches) -> None:
        """Count the steps of learning-rate schedulers, except for the one at their creation."""
        from torch.optim import lr_scheduler

        def before(args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
            caller = sys._getframe(2).f_code.co_name  # noqa: SLF001 - only reads a function's name
            optimizer = getattr(args[0], "optimizer", None)
            if caller != "_initial_step" and optimizer is not None:
                self._scheduled[id(optimizer)] = self._scheduled.get(id(optimizer), 0) + 1

        kinds = {each for each in vars(lr_scheduler).values() if isinstance(each, type)} if self._leaves_out else set()
        for kind in kinds:
            if issubclass(kind, lr_scheduler.LRScheduler):
                patches.around(kind, "step", before)

    def scaled(self) -> None:
        """Note a step through a GradScaler."""
        self._has_scaler = True

    def at_first_step(self) -> None:
        """Note whether a trainer steps."""
        if self._leaves_out:
            self._trainer = self._trainer or trainer()

    def found(self, optimizers: TrackedOptimizers) -> list[str]:
        """Return the doubts."""
        changes = [BEFORE_STEP] if optimizers.are_altered() else []
        if not self._leaves_out:
            return changes
        calls = max((each.calls for each in optimizers), default=0)
        doubts = {
            PER_BATCH: 2 * max(self._scheduled.values(), default=0) > calls,
            SCALER: self._has_scaler,
            f"the {self._trainer} trainer counts updates that are left out": bool(self._trainer),
            CHANGED: any(each.changed_within for each in optimizers.imposed),
            OTHERS: self._only is not None and optimizers.created > 1 and self._mode is not None and self._mode.mean,
        }
        return changes + [why for why, holds in doubts.items() if holds]

    def remarks(self) -> list[str]:
        """Return what a reader must know even if the mode took effect."""
        return [EPOCHS] if self._leaves_out else []
