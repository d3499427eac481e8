"""What a backward pass reaches, and what a step takes: heard at measured updates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.audit.untraced import untraced

if TYPE_CHECKING:
    from gradlab.audit.patching import Patches
    from gradlab.audit.recording import Recorder


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Tell of what is backwarded before it is, and of steps, once these have been counted."""
    from torch import Tensor, autograd
    from torch.optim import Optimizer
    from torch.optim import optimizer as hooks

    def before(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for recorder in recorders:
            if recorder.is_measuring():
                roots = args[0] if args else kwargs.get("tensors")
                chosen = kwargs.get("inputs") if len(args) < 6 else args[5]  # then it reaches nothing else
                if chosen is None:
                    recorder.reaches([roots] if isinstance(roots, Tensor) else list(roots or ()))

    def begins(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        for recorder in recorders:
            recorder.takes(optimizer)

    def ends(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        for recorder in recorders:
            recorder.has_taken(optimizer)

    patches.later(hooks.register_optimizer_step_pre_hook(untraced(begins)).remove)
    patches.later(hooks.register_optimizer_step_post_hook(untraced(ends)).remove)
    patches.around(autograd, "backward", before)
