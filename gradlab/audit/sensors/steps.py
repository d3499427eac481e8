"""Steps of optimizers, by the hooks that torch has for that; and optimizers that are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.audit.untraced import untraced

if TYPE_CHECKING:
    from gradlab.audit.patching import Patches
    from gradlab.audit.recording import Recorder


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Tell when an optimizer is made, and when its step begins and ends."""
    from torch.optim import Optimizer
    from torch.optim import optimizer as hooks

    def begins(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        for recorder in recorders:
            recorder.step_begins(optimizer)

    def ends(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        for recorder in recorders:
            recorder.step_ends(optimizer)

    def made(args: tuple[Any, ...], error: BaseException | None) -> None:
        for recorder in recorders if error is None else ():
            recorder.created(args[0])

    patches.later(hooks.register_optimizer_step_pre_hook(untraced(begins)).remove)
    patches.later(hooks.register_optimizer_step_post_hook(untraced(ends)).remove)
    patches.around(Optimizer, "__init__", after=made)
