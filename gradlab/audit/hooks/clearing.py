"""Clearing: the zero_grad() of optimizers and of models. What clears without them is found at the next pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.audit.hooks.untraced import untraced

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.audit.hooks.patching import Patches
    from gradlab.audit.recording.recorder import Recorder


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Tell when gradients are cleared by call."""
    from torch import nn
    from torch.optim import Optimizer

    def cleared(optimizer: Optimizer) -> None:
        for recorder in recorders:
            recorder.cleared(optimizer)

    untraced(cleared)

    def listening(zero_grad: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:  # pragma: no cover - it runs under another file name
            result = zero_grad(*args, **kwargs)
            alone = recorders[0].alone if len(recorders) == 1 else None
            if (
                alone is not None
                and alone.optimizer() is args[0]
                and recorders[0].thread is None  # no call from here to the note, as in `backward`
                and not alone.letters
            ):
                alone.held = False
                alone.letters = "z"
                return result
            cleared(args[0])
            return result

        return call

    def models(args: tuple[Any, ...], _error: BaseException | None) -> None:
        for recorder in recorders:
            recorder.model_cleared(args[0])

    patches.replace(Optimizer, "zero_grad", listening)
    patches.around(nn.Module, "zero_grad", after=models)
