"""Task: a model, its batches and its loss; and mini-batches of two tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gradlab.errors import TaskError, kind_of, shortened

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Task:
    """A model, its batches and its loss.

    Attributes:
        model: the module to train.
        batches: a list, a DataLoader or another iterable that can be iterated repeatedly. One pass is one epoch.
        loss: `loss(model, batch)` returns a scalar tensor with a graph. For batches of unequal size, it can return a
            pair (sum, count): such a tensor, and the number of items in it. Then accumulation divides a window by its
            items instead of its batches.
        criterion: the criterion given to `supervised`; engine `tensorflow` converts it.
        validation: batches that are not trained on; the loss and the metrics are computed on them between steps.
        metrics: functions by name. `f(model, batch)` returns a number or a pair (sum, count). They are computed on the
            validation batches, or on the training batches if there are none.
    """

    model: nn.Module
    batches: Iterable[Any]
    loss: Callable[[Any, Any], Any]
    criterion: Callable[[Tensor, Tensor], Tensor] | None = None
    validation: Iterable[Any] | None = None
    metrics: Mapping[str, Callable[[Any, Any], Any]] = field(default_factory=dict)

    @classmethod
    def supervised(
        cls,
        model: nn.Module,
        batches: Iterable[Any],
        criterion: Callable[[Tensor, Tensor], Tensor],
        *,
        validation: Iterable[Any] | None = None,
        metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    ) -> Task:
        """Return a task with batches `(inputs, targets)` and the loss criterion(model(inputs), targets).

        Computing the loss raises TaskError for other batches, such as dicts.
        """
        return cls(model, batches, SupervisedLoss(criterion), criterion, validation, metrics or {})

    def to(self, device: str) -> Task:
        """Return the task on `device`, such as "cpu" or "cuda:0"; every batch is moved when it is used."""
        if device == "cpu":
            return self

        def moved(part: Any) -> Any:
            return part.to(device) if hasattr(part, "to") else part

        def moving(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
            return lambda model, batch: function(model, map_batch(batch, moved))

        metrics = {name: moving(metric) for name, metric in self.metrics.items()}
        return replace(self, model=self.model.to(device), loss=moving(self.loss), metrics=metrics)


@dataclass(frozen=True)
class SupervisedLoss:
    """The loss criterion(model(inputs), targets). Unlike a function, `copy.deepcopy` copies it with its criterion."""

    criterion: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the loss of a batch `(inputs, targets)`.

        Raises:
            TaskError: the batch is of another kind, such as a dict.
        """
        if type(batch) not in (tuple, list) or len(batch) != 2:
            check_pair(batch)
        inputs, targets = batch
        return self.criterion(model(inputs), targets)


class Minibatches:
    """Batches `(inputs, targets)` of rows of two tensors, reshuffled every pass; the last batch may be shorter.

    Attributes:
        inputs: shape (n, …).
        targets: shape (n, …).
        batch_size: rows per batch.
        generator: draws the order.
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
    """Return the number of batches in an epoch, or None if `batches` has no len()."""
    try:
        return len(batches)  # type: ignore[arg-type]  # iterables need none, and a DataLoader's may raise
    except TypeError:
        return None


def check_pair(batch: Any, batches: str = "batches") -> None:
    """Raise TaskError, with the loss to write instead, unless the batch of these batches is (inputs, targets)."""
    if isinstance(batch, Mapping):
        keys = [repr(key) for key in batch]
        names = ", ".join(keys[:8])
        found = f"a {type(batch).__name__} with the keys {shortened(names, 100)}"
        first, last = (keys[0], _targets_key(keys)) if len(keys) > 1 else ("…", "…")
        parts = f"batch[{first}]", f"batch[{last}]"
    else:
        try:
            if len(batch) == 2:
                return
            found = f"{kind_of(batch)} of length {len(batch)}"
        except TypeError:
            found = kind_of(batch)
        parts = "…", "…"
    raise TaskError(
        f"Task.supervised needs {batches} (inputs, targets), got {found}\n"
        f"write: Task(model, batches, lambda model, batch: criterion(model({parts[0]}), {parts[1]}))"
    )


def _targets_key(keys: list[str]) -> str:
    """Return the key that holds the targets by its name, else the last one."""
    usual = ("'labels'", "'label'", "'targets'", "'target'", "'y'")
    return next((key for key in usual if key in keys[1:]), keys[-1])


def at_least_one(**options: int) -> None:
    """Raise TaskError for an option below 1."""
    for name, value in options.items():
        if value < 1:
            raise TaskError(f"task option {name} must be at least 1, got {value}")


def map_batch(batch: Any, function: Callable[[Any], Any]) -> Any:
    """Return the batch with `function` applied to each part inside its nested mappings, lists and tuples.

    An object with a method `to`, such as a tensor, is one part.
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
