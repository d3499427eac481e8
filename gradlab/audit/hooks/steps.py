"""Steps of optimizers, by the hooks that torch has for that; and optimizers that are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.audit.hooks.untraced import untraced

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.optim import Optimizer

    from gradlab.audit.hooks.patching import Patches
    from gradlab.audit.recording.recorder import Recorder


def install(patches: Patches, recorders: list[Recorder]) -> None:
    """Tell when an optimizer is made, and when its step begins and ends."""
    from torch.optim import Optimizer
    from torch.optim import optimizer as hooks

    def begins(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        alone = recorders[0].alone if len(recorders) == 1 else None
        if alone is not None and alone.optimizer() is optimizer and alone.held and not alone.in_step:
            recorder, first = recorders[0], alone.first()
            if (
                recorder.thread is None  # no call from here to the look at the gradient, as in `backward`
                and first is not None
                and first.grad is not None
                and alone.history.updates + 2 < alone.due
            ):
                alone.in_step = True
                alone.nested = 0
                alone.none_found = False
                return
        for recorder in recorders:
            recorder.step_begins(optimizer)

    patches.later(hooks.register_optimizer_step_pre_hook(untraced(begins)).remove)
    patches.later(hooks.register_optimizer_step_post_hook(untraced(_ending(recorders))).remove)

    def made(args: tuple[Any, ...], error: BaseException | None) -> None:
        for recorder in recorders if error is None else ():
            recorder.created(args[0])

    patches.around(Optimizer, "__init__", after=made)


def _ending(recorders: list[Recorder]) -> Callable[[Optimizer, Any, Any], None]:
    def ends(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        alone = recorders[0].alone if len(recorders) == 1 else None
        if alone is not None and alone.in_step and alone.optimizer() is optimizer:
            fetched, history = recorders[0].fetched, alone.history
            batches = fetched - alone.fetched
            if (
                alone.stretch is not None
                and alone.stretch.trace == alone.letters
                and batches in history.fetched
                and not (alone.losses or alone.nested or alone.none_found)
                and recorders[0].thread is None
            ):
                alone.in_step = False
                alone.letters = ""
                alone.fetched = fetched
                alone.stretch.times += 1
                history.updates += 1
                history.fetched[batches] += 1
                return
        for tell in [recorder.step_ends(optimizer) for recorder in recorders]:
            if tell is not None:
                tell()

    return ends
