"""Backward passes: torch.autograd.backward, which Tensor.backward calls.

torch.autograd.grad and torch.func leave `.grad` alone, and are none of our business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradlab.audit.patching import Patches
    from gradlab.audit.recording import Recorder


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Tell when a backward pass begins and ends."""
    from torch import autograd

    def before(_args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        for recorder in recorders:
            recorder.backward_begins()

    def after(_args: tuple[Any, ...], _error: BaseException | None) -> None:
        for recorder in recorders:
            recorder.backward_ends()

    patches.around(autograd, "backward", before, after)
