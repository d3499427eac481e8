"""Hook for zero_grad() of optimizers and models. Other ways to clear show up at the next backward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.audit.hooks.untraced import untraced
from gradlab.audit.recording.fast_paths import recorded_zero_grad

if TYPE_CHECKING:
    from gradlab.audit.hooks.patching import Patches
    from gradlab.audit.recording.recorder import Recorder


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Record calls of zero_grad()."""
    from torch import nn
    from torch.optim import Optimizer

    def cleared(optimizer: Optimizer) -> None:
        for recorder in recorders:
            recorder.cleared(optimizer)

    def model_cleared(args: tuple[Any, ...], _error: BaseException | None) -> None:
        for recorder in recorders:
            recorder.model_cleared(args[0])

    untraced(cleared)
    patches.replace(Optimizer, "zero_grad", lambda zero_grad: recorded_zero_grad(zero_grad, recorders, cleared))
    patches.around(nn.Module, "zero_grad", after=model_cleared)
