"""Hook for mixed precision: unscale_() of GradScaler, and updates that its step() skips."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.audit.history.trace import Event

if TYPE_CHECKING:
    from gradlab.audit.hooks.patching import Patches
    from gradlab.audit.recording.recorder import Recorder


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Record unscaling, and updates that are skipped because gradients are not finite."""
    from torch.amp.grad_scaler import GradScaler

    under_way: list[tuple[Any, list[int]]] = []  # running calls of step: optimizer, updates before

    def optimizer_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return args[1] if len(args) > 1 else kwargs.get("optimizer")

    def unscales(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        optimizer = optimizer_of(args, kwargs)
        for recorder in recorders if optimizer is not None and args[0].is_enabled() else ():
            recorder.unscaled(optimizer, args[0])

    def on_start(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        optimizer = optimizer_of(args, kwargs)
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            unscales(args, kwargs)  # a fused optimizer unscales in its step
        under_way.append((optimizer, [recorder.updates_of(optimizer) for recorder in recorders]))

    def on_end(_args: tuple[Any, ...], error: BaseException | None) -> None:
        optimizer, updates = under_way.pop()
        for recorder, before in zip(recorders, updates, strict=False):
            if error is None and recorder.updates_of(optimizer) == before:
                recorder.happened(Event.SKIPPED, optimizer)

    patches.around(GradScaler, "unscale_", unscales)
    patches.around(GradScaler, "step", on_start, on_end)
