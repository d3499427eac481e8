"""Clearing: the zero_grad() of optimizers and of models. What clears without them is found at the next pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradlab.audit.patching import Patches
    from gradlab.audit.recording import Recorder


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Tell when gradients are cleared by call."""
    from torch import nn
    from torch.optim import Optimizer

    def own(args: tuple[Any, ...], _error: BaseException | None) -> None:
        for recorder in recorders:
            recorder.cleared(args[0])

    def models(args: tuple[Any, ...], _error: BaseException | None) -> None:
        for recorder in recorders:
            recorder.model_cleared(args[0])

    patches.around(Optimizer, "zero_grad", after=own)
    patches.around(nn.Module, "zero_grad", after=models)
