"""Task: a model, its batches and its loss; and batches of two tensors, reshuffled at each pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gradlab.errors import TaskError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Task:
    """A model, its batches and its loss.

    Attributes:
        model: the module that is trained.
        batches: a re-iterable (a list, a DataLoader), one pass of which is one epoch.
        loss: `loss(model, batch)`, returning a scalar tensor with a graph behind it; or a pair (sum, count) of such a
            tensor and how many items it is the sum of, where batches are of unequal size: then accumulation divides a
            window by the items in it, and not by its batches.
        criterion: what the loss is made of, where the task is made by `supervised`; another engine may convert it.
    """

    model: nn.Module
    batches: Iterable[Any]
    loss: Callable[[Any, Any], Any]
    criterion: Callable[[Tensor, Tensor], Tensor] | None = None

    @classmethod
    def supervised(
        cls, model: nn.Module, batches: Iterable[Any], criterion: Callable[[Tensor, Tensor], Tensor]
    ) -> Task:
        """Return the task of batches `(inputs, targets)` with the loss criterion(model(inputs), targets)."""

        def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
            inputs, targets = batch
            return criterion(model(inputs), targets)

        return cls(model, batches, loss, criterion)

    def to(self, device: str) -> Task:
        """Return the task on `device`, such as "cpu" or "cuda:0"; batches move there one by one."""
        if device == "cpu":
            return self
        loss = self.loss

        def moved(part: Any) -> Any:
            return part.to(device) if hasattr(part, "to") else part

        return replace(
            self, model=self.model.to(device), loss=lambda model, batch: loss(model, map_batch(batch, moved))
        )


class Minibatches:
    """Batches `(inputs, targets)` of the rows of two tensors, in a new order at each pass; the last may be shorter.

    Attributes:
        inputs: shape (n, …).
        targets: shape (n, …).
        batch_size: rows a batch.
        generator: what the order is drawn from.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, batch_size: int, generator: torch.Generator) -> None:
        at_least_one(batch_size=batch_size)
        self.inputs, self.targets = inputs, targets
        self.batch_size = batch_size
        self.generator = generator

    def __len__(self) -> int:
        return -(-len(self.inputs) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        import torch

        order = torch.randperm(len(self.inputs), generator=self.generator)
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield self.inputs[chosen], self.targets[chosen]


def epoch_length(batches: Iterable[Any]) -> int | None:
    """Return how many batches an epoch has, or None where only a pass would tell."""
    try:
        return len(batches)  # type: ignore[arg-type]  # not all iterables have one, and a DataLoader may refuse
    except TypeError:
        return None


def at_least_one(**options: int) -> None:
    """Raise TaskError for an option of a built-in task that is a size and below 1."""
    for name, value in options.items():
        if value < 1:
            raise TaskError(f"task option {name} must be at least 1, got {value}")


def map_batch(batch: Any, function: Callable[[Any], Any]) -> Any:
    """Return the batch with `function` of each of its parts: of what lies in mappings, lists and tuples, however deep.

    What has a method `to`, as tensors and some batches of their own type do, is a part.
    """
    if hasattr(batch, "to"):
        return function(batch)
    if isinstance(batch, Mapping):
        return {key: map_batch(each, function) for key, each in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_batch(each, function) for each in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(map_batch(each, function) for each in batch)
    return function(batch)
