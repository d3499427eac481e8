"""A built-in task with parameters that most steps do not use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.tasks.task import Task, at_least_one

if TYPE_CHECKING:
    from torch import Tensor, nn


def heads_in_turn(
    seed: int,
    heads: int = 8,
    inputs: int = 4,
    hidden: int = 16,
    batch_size: int = 16,
    rounds: int = 10,
    noise: float = 0.1,
) -> Task:
    """Learn `heads` lines with one hidden layer for all and a head for each: a batch uses one head, the others rest.

    As with tasks in turn, or the rows of an embedding: in a step, a head that was not used has no gradient (None)
    after `zero_grad`, and zeros after `zero_grad:fill`, by which momentum and weight decay still move it. Batches
    (which head, x, y) with x of shape (batch_size, inputs), the heads in turn, the same `heads` batches in each of
    the `rounds` of an epoch; y = x·w + noise·ε, with w of the head, x and ε standard normal.
    """
    import torch
    from torch import nn

    at_least_one(heads=heads, inputs=inputs, hidden=hidden, batch_size=batch_size, rounds=rounds)
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for head in range(heads):
        x, weight = torch.randn(batch_size, inputs, generator=generator), torch.randn(inputs, 1, generator=generator)
        batches.append((head, x, x @ weight + noise * torch.randn(batch_size, 1, generator=generator)))
    shared = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh())
    model = nn.ModuleDict({"shared": shared, "heads": nn.ModuleList(nn.Linear(hidden, 1) for _ in range(heads))})

    def loss(model: nn.ModuleDict, batch: tuple[int, Tensor, Tensor]) -> Tensor:
        head, x, y = batch
        used: nn.Module = model["heads"][head]  # type: ignore[index]  # a ModuleList, which a ModuleDict does not say
        squares: Tensor = (used(model["shared"](x)) - y) ** 2
        return squares.mean()

    return Task(model, batches * rounds, loss)
