"""Hook for the creation and the steps of optimizers, through torch's own step hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.audit.hooks.untraced import untraced
from gradlab.audit.recording.fast_paths import recorded_step

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from gradlab.audit.hooks.patching import Patches
    from gradlab.audit.recording.recorder import Recorder


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Record the creation of optimizers, and the start and end of their steps."""
    from torch.optim import Optimizer
    from torch.optim import optimizer as hooks

    def started(optimizer: Optimizer) -> None:
        for recorder in recorders:
            recorder.step_started(optimizer)

    def ended(optimizer: Optimizer) -> None:
        measured = [recorder for recorder in recorders if recorder.step_ended(optimizer)]
        for recorder in measured:  # after all have recorded it, because this may raise
            if recorder.on_measured:
                recorder.on_measured()

    def made(args: tuple[Any, ...], error: BaseException | None) -> None:
        for recorder in recorders if error is None else ():
            recorder.optimizer_created(args[0])

    on_start, on_end = recorded_step(recorders, started, ended)
    patches.callback(hooks.register_optimizer_step_pre_hook(untraced(on_start)).remove)
    patches.callback(hooks.register_optimizer_step_post_hook(untraced(on_end)).remove)
    patches.around(Optimizer, "__init__", after=made)
