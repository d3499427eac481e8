"""Gradient accumulation: batches are cut into windows, and the gradient of a window is the mean over it."""

from __future__ import annotations

import math
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any

from gradlab.errors import TaskError
from gradlab.tasks import epoch_length

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor, nn

    from gradlab.modes import Mode


def windows(batches: Iterable[Any], every: int, most: int | None) -> Iterator[tuple[Any, tuple[int, bool]]]:
    """Yield the batches of an epoch, `most` of them at most, each with the size of its window and whether it ends it.

    The last window may be shorter. Where batches have no len(), each window is drawn before it begins: only then is
    its size known.

    Raises:
        TaskError: there are more or fewer batches than len() says, so that the last window cannot close.
    """
    length = epoch_length(batches)
    if most is not None:
        batches = islice(batches, most)
        length = None if length is None else min(length, most)
    nth = 0
    if every == 1:
        yield from zip(batches, repeat((1, True)), strict=False)  # no Python between two steps
    elif length is None:
        iterator = iter(batches)
        while window := list(islice(iterator, every)):
            yield from ((batch, (len(window), nth == len(window))) for nth, batch in enumerate(window, 1))
    else:
        for nth, batch in enumerate(batches, 1):
            if nth > length:
                break
            before = (nth - 1) // every * every
            size = min(every, length - before)
            yield batch, (size, nth == before + size)
        if nth != length:
            raise TaskError(
                f"an epoch has {nth} batches where len() says {length}, so that its last window cannot close"
            )


def update_count(length: int, every: int, *, epochs: int | None = None, steps: int | None = None) -> int:
    """Return the number of optimizer steps of a training whose epochs have `length` batches."""
    total = min(most for most in (epochs and epochs * length, steps) if most is not None)
    full_epochs, rest = divmod(total, length)
    return full_epochs * math.ceil(length / every) + math.ceil(rest / every)


class WindowMean:
    """The mean gradient over the batches of a window, or over their items where the loss counts them.

    The number of items is known at the end only. Until then each batch counts by its items over `scale`, which
    doubles, and halves `.grad`, as often as the items so far exceed it; then all are brought to the total. So numbers
    stay between half a mean and a mean, which half precision can hold, and halving rounds nothing.

    Attributes:
        scale: what items count over: those of the window's first batch, doubled as often as need be.
        total: items of the window so far; 0 between two windows, and where the loss does not count them.
        kept: what the mode kept in `.grad` before this window, which is no part of the mean.
    """

    def __init__(self) -> None:
        self.parameters: list[nn.Parameter] = []
        self.divides = self.by_batch = False
        self.scale = self.total = 0.0
        self.kept: list[Tensor | None] = []

    def state_dict(self) -> dict[str, Any]:
        """Return what it needs to resume."""
        return {"scale": self.scale, "total": self.total, "kept": self.kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the window that this is the state of."""
        vars(self).update(state)

    def begin(self, mode: Mode, parameters: list[nn.Parameter]) -> None:
        """Take windows of this mode over the gradients of these parameters."""
        self.parameters = parameters
        self.divides, self.by_batch = mode.mean and mode.every > 1, mode.by_batch

    def divide(self, loss: Any, items: float | None, size: int) -> Any:
        """Return what is backpropagated of a batch with this mean loss, in a window of so many batches."""
        if not self.divides:
            return loss
        if items is None or self.by_batch:
            return loss / size if size > 1 else loss
        if not self.total:
            self.scale = items
            self.kept = [parameter.grad for parameter in self.parameters]
            for parameter in self.parameters:
                parameter.grad = None
        self.total += items
        before = self.scale
        while self.scale < self.total:
            self.scale *= 2
        if before != self.scale:
            self._multiply(before / self.scale)
        return loss * (items / self.scale) if items != self.scale else loss

    def finish(self) -> None:
        """Make `.grad` what was kept plus the mean over the window's items, if the loss counts them."""
        if not self.total:
            return
        if self.total != self.scale:
            self._multiply(self.scale / self.total)
        for parameter, kept in zip(self.parameters, self.kept, strict=True):
            if kept is not None:
                parameter.grad = kept if parameter.grad is None else kept.add_(parameter.grad)
        self.scale = self.total = 0.0
        self.kept = []

    def _multiply(self, factor: float) -> None:
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad *= factor
