"""Gradient accumulation: windows of batches, and the mean gradient of a window."""

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
    """Yield at most `most` batches of an epoch, each with the size of its window and whether it is the window's last.

    The last window may be shorter. If `batches` has no len(), each window is drawn in advance to find its size.

    Raises:
        TaskError: the number of batches differs from len().
    """
    length = epoch_length(batches)
    if most is not None:
        batches = islice(batches, most)
        length = None if length is None else min(length, most)
    nth = 0
    if every == 1:
        yield from zip(batches, repeat((1, True)), strict=False)  # fast: no Python code per batch
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
            raise TaskError(f"an epoch has {nth} batches, but len() is {length}; accumulation needs the exact length")


def update_count(length: int, every: int, *, epochs: int | None = None, steps: int | None = None) -> int:
    """Return the number of optimizer steps in a training with `length` batches per epoch."""
    total = min(most for most in (epochs and epochs * length, steps) if most is not None)
    full_epochs, rest = divmod(total, length)
    return full_epochs * math.ceil(length / every) + math.ceil(rest / every)


class WindowMean:
    """The mean gradient over the batches of a window, or over their items if the loss counts items.

    The number of items is known only at the end of the window. Until then, each batch is weighted by items / `scale`.
    If the total exceeds `scale`, `scale` doubles and `.grad` is halved. At the end, `.grad` is multiplied by
    `scale` / `total`. So `.grad` stays between half the mean and the mean, which avoids overflow in half precision,
    and halving is exact.

    Attributes:
        scale: current divisor: the items of the first batch, doubled until it reaches `total`.
        total: items of the window so far; 0 between windows, or if the loss does not count items.
        kept: the gradients that the mode kept from before this window; they are not part of the mean.
    """

    def __init__(self) -> None:
        self.parameters: list[nn.Parameter] = []
        self.divides = self.by_batch = False
        self.scale = self.total = 0.0
        self.kept: list[Tensor | None] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the current window."""
        return {"scale": self.scale, "total": self.total, "kept": self.kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the window that `state_dict` returned."""
        vars(self).update(state)

    def begin(self, mode: Mode, parameters: list[nn.Parameter]) -> None:
        """Set the mode, and the parameters whose gradients it averages."""
        self.parameters = parameters
        self.divides, self.by_batch = mode.mean and mode.every > 1, mode.by_batch

    def divide(self, loss: Any, items: float | None, size: int) -> Any:
        """Return the loss to backpropagate, from a batch's mean loss, its items and the window's number of batches."""
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
        """Set `.grad` to the kept gradient plus the mean over the window's items, if the loss counts items."""
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
