"""Scripts with many optimizers: those beyond the first 64 are told of."""

from __future__ import annotations

from typing import Any

import torch

from gradlab import audit


def take_step(optimizer: torch.optim.Optimizer) -> None:
    (parameter,) = optimizer.param_groups[0]["params"]
    optimizer.zero_grad()
    loss: Any = parameter.sum()
    loss.backward()
    optimizer.step()


def new() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)


def test_optimizers_that_are_not_watched_are_counted_and_told_of() -> None:
    early = new()
    with audit.watch() as report:
        for _ in range(66):
            late = new()
            for _ in range(2):
                take_step(late)
        for _ in range(2):
            take_step(early)
    assert (len(report.optimizers), report.history.unwatched) == (64, 3)
    assert report.lines(200)[-1] == "  beyond the first 64 optimizers, 3 more were not watched"


def test_optimizers_that_are_gone_and_took_no_step_make_room_for_others() -> None:
    with audit.watch() as report:
        kept = [new() for _ in range(10)]
        for _ in range(200):
            new()
        for each in [*kept, new(), new()]:
            take_step(each)
    assert (len(report.optimizers), report.history.unwatched) == (12, 0)
