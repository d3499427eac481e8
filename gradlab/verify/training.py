"""Short training runs for the claims, and comparisons of their losses and weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import optimizers, tasks
from gradlab.engines import loop

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor, nn

    from gradlab.modes import Mode
    from gradlab.rows import Row
    from gradlab.tasks import Task


class TrainedModel(NamedTuple):
    """The rows of a training and its final weights."""

    rows: list[Row]
    weights: list[Tensor]

    @property
    def losses(self) -> list[float]:
        """The loss of each step."""
        return [row.loss for row in self.rows]

    def distance(self, other: TrainedModel) -> float:
        """Return the largest difference between two corresponding weights."""
        return max_difference(self.weights, other.weights)


def build_task(name: str, seed: int, **options: object) -> Task:
    """Return a built-in task after seeding every generator."""
    return tasks.build(tasks.find(name), seed, options)


def small_noisy_line(*, double: bool = False) -> Task:
    """Return the task noisy_line with 4 inputs in batches of 4."""
    task = build_task("noisy_line", 0, inputs=4, batch_size=4)
    return to_float64(task) if double else task


def to_float64(task: Task) -> Task:
    """Return the task with weights, inputs and targets in float64."""
    loss = task.loss
    return replace(
        task, model=task.model.double(), loss=lambda model, batch: loss(model, [each.double() for each in batch])
    )


def train_rows(
    task: Task, mode: Mode, optimizer: str = "SGD", *, steps: int, clip_norm: float | None = None, **options: Any
) -> Iterator[Row]:
    """Train the task with this optimizer and its options; yield the rows."""
    made = optimizers.build(optimizer, task.model.parameters(), options)
    return loop.train(task, mode, made, steps=steps, clip_norm=clip_norm)


def train(task: Task, mode: Mode, optimizer: str = "SGD", *, steps: int, **options: Any) -> TrainedModel:
    """Train the task as `train_rows` does and return the result."""
    return TrainedModel(list(train_rows(task, mode, optimizer, steps=steps, **options)), copy_weights(task.model))


def copy_weights(model: nn.Module) -> list[Tensor]:
    """Return a copy of the parameters."""
    return [parameter.detach().clone() for parameter in model.parameters()]


def copy_grads(model: nn.Module) -> list[Tensor]:
    """Return a copy of every `.grad`, with zeros for None."""
    import torch

    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def all_equal(these: Sequence[Tensor], those: Sequence[Tensor]) -> bool:
    """Return whether all tensors are equal bit for bit, except for the sign of 0."""
    import torch

    return all(torch.equal(this, that) for this, that in zip(these, those, strict=True))


def trained_alike(this: TrainedModel, that: TrainedModel) -> bool:
    """Return whether two trainings agree in every loss and every weight."""
    return this.losses == that.losses and all_equal(this.weights, that.weights)


def max_difference(these: Sequence[Tensor], those: Sequence[Tensor]) -> float:
    """Return the largest absolute difference between corresponding numbers."""
    return max(float((this - that).abs().max()) for this, that in zip(these, those, strict=True))


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Return the norm of the difference / the norm of `exact`."""
    return float((found - exact).norm() / exact.norm())


def total_norm(tensors: Iterable[Tensor]) -> float:
    """Return the norm of all tensors as one vector."""
    return float(as_vector(tensors).norm())


def as_vector(tensors: Iterable[Tensor]) -> Tensor:
    """Return all tensors as one vector, in float64."""
    import torch

    return torch.cat([each.detach().reshape(-1).double() for each in tensors])
