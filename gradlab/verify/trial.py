"""Trial: a short training whose losses and weights are compared with those of another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from gradlab.modes import Mode
    from gradlab.rows import Row
    from gradlab.tasks import Task


class Trial(NamedTuple):
    """The rows of a training and the weights that it ended with."""

    rows: list[Row]
    weights: list[Tensor]

    @property
    def losses(self) -> list[float]:
        """The loss of each step."""
        return [row.loss for row in self.rows]


def built(name: str, seed: int, **options: object) -> Task:
    """Return a built-in task, every generator seeded before."""
    return tasks.build(tasks.find(name), seed, options)


def noisy_line(*, double: bool = False) -> Task:
    """Return the built-in task of that name with 4 inputs, in batches of 4: small, and noisy in inputs and labels."""
    task = built("noisy_line", 0, inputs=4, batch_size=4)
    return in_double(task) if double else task


def in_double(task: Task) -> Task:
    """Return the task in float64: weights and batches of inputs and targets."""
    loss = task.loss
    return replace(
        task, model=task.model.double(), loss=lambda model, batch: loss(model, [each.double() for each in batch])
    )


def trial(task: Task, mode: Mode, optimizer: str = "SGD", *, steps: int, lr: float, **options: Any) -> Trial:
    """Train the task for so many steps with an optimizer of that name, `options` its further ones."""
    from gradlab import optimizers
    from gradlab.engines import loop

    made = optimizers.build(optimizer, task.model.parameters(), {"lr": lr, **options})
    rows = list(loop.train(task, mode, made, steps=steps))
    return Trial(rows, weights_of(task.model))


def weights_of(model: nn.Module) -> list[Tensor]:
    """Return a copy of the parameters."""
    return [parameter.detach().clone() for parameter in model.parameters()]


def grads_of(model: nn.Module) -> list[Tensor]:
    """Return a copy of what `.grad` holds, zeros where it is None."""
    import torch

    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]


def equal(these: Sequence[Tensor], those: Sequence[Tensor]) -> bool:
    """Say whether all tensors are equal, bit for bit but for the sign of 0."""
    import torch

    return all(torch.equal(this, that) for this, that in zip(these, those, strict=True))


def same(this: Trial, that: Trial) -> bool:
    """Say whether two trainings agree in every loss and every weight."""
    return this.losses == that.losses and equal(this.weights, that.weights)


def apart(these: Sequence[Tensor], those: Sequence[Tensor]) -> float:
    """Return the largest difference between two numbers that belong together."""
    return max(float((this - that).abs().max()) for this, that in zip(these, those, strict=True))


def norm(tensors: Sequence[Tensor]) -> float:
    """Return the length of all tensors taken as one vector."""
    return float(flat(tensors).norm())


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Return all tensors as one vector, in float64."""
    import torch

    return torch.cat([each.detach().reshape(-1).double() for each in tensors])
