"""Hook for eval() of modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradlab.audit.hooks.patching import Patches
    from gradlab.audit.recording.recorder import Recorder


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Record calls of eval()."""
    from torch import nn

    def after(args: tuple[Any, ...], _error: BaseException | None) -> None:
        for recorder in recorders:
            recorder.module_in_eval(args[0])

    patches.around(nn.Module, "eval", after=after)
