"""Hook for backward passes: torch.autograd.backward, which Tensor.backward calls.

torch.autograd.grad and torch.func don't change `.grad`, so the audit ignores them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.audit.hooks.untraced import untraced
from gradlab.audit.recording.fast_paths import recorded_backward

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.audit.hooks.patching import Patches
    from gradlab.audit.recording.recorder import Recorder


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Record the start and end of backward passes, and whether a GradScaler scaled the loss."""
    from torch import autograd
    from torch.amp.grad_scaler import GradScaler

    def marking(scale: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:  # pragma: no cover - it runs under another file name
            result = scale(*args, **kwargs)
            scaled(args[0], result)
            return result

        return call

    def scaled(scaler: GradScaler, result: Any) -> None:
        for recorder in recorders:
            recorder.loss_scaled(result, enabled=scaler.is_enabled())

    def on_start(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for recorder in recorders:
            recorder.backward_started(args, kwargs)

    def on_end() -> None:
        for recorder in recorders:
            recorder.backward_ended()

    untraced(on_start), untraced(on_end), untraced(scaled)
    patches.replace(GradScaler, "scale", marking)
    patches.replace(autograd, "backward", lambda backward: recorded_backward(backward, recorders, on_start, on_end))
