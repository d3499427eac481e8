"""Batches of several seeds are drawn as if each seed were alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gradlab import modes, tasks
from gradlab.engines import ensemble
from gradlab.engines.ensemble import CannotStackError, SeedTask
from gradlab.tasks import Task
from tests.ensemble.test_loop import (
    IN_SINGLE,
    SEEDS,
    alone,
    built,
    distance,
    sgd,
    together,
)
from tests.ensemble.test_stackability import data, plain


def shuffled(seed: int) -> Task:
    """Return a task that draws from torch's global generator whenever an epoch begins."""
    tasks.global_generators.seed_everything(seed)
    x, y = torch.randn(12, 2), torch.randn(12, 1)
    rows: Any = list(zip(x, y, strict=True))
    loader = torch.utils.data.DataLoader(rows, batch_size=5, shuffle=True)
    return Task.supervised(nn.Linear(2, 1), loader, nn.MSELoss())


def test_each_seed_draws_from_global_generators_as_if_alone() -> None:
    members = [(modes.zero_grad(), seed) for seed in (1, 2, 3)]
    found = together(shuffled, members, sgd, steps=20)
    expected = [alone(shuffled, mode, seed, sgd, steps=20) for mode, seed in members]
    assert max(map(distance, found, expected)) < IN_SINGLE


def test_batches_too_large_to_draw_ahead_are_drawn_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = together(shuffled, [(modes.zero_grad(), seed) for seed in (1, 2)], sgd, steps=20)
    drawn: list[int] = []
    before = SeedTask.draw

    def noted(seed: SeedTask, batches: Any, most: int) -> list[Any]:
        drawn.append(most)
        return before(seed, batches, most)

    monkeypatch.setattr(SeedTask, "draw", noted)
    monkeypatch.setattr(ensemble.batches, "BLOCK_BYTES", 1)
    assert together(shuffled, [(modes.zero_grad(), seed) for seed in (1, 2)], sgd, steps=20) == expected
    assert set(drawn) == {1}


def test_seeds_with_unequal_epoch_lengths_cannot_be_stacked() -> None:
    def make(seed: int) -> Task:
        return plain(batches=[data()] * seed)

    with pytest.raises(CannotStackError, match="differ in the number of batches"):
        together(make, [(modes.zero_grad(), seed) for seed in SEEDS], sgd, steps=40)


def test_global_generators_are_switched_only_where_needed() -> None:
    of_its_own = SeedTask(built("noisy_line", {"samples": 10, "batch_size": 5}, 3, torch.float32))
    assert of_its_own.shares_generators  # batches of a kind that is not known
    for name in ("noisy_line", "digits", "straight_line", "heads_in_turn"):
        assert not SeedTask(tasks.build(tasks.find(name), 3, {}), resumable=False).shares_generators
    task = tasks.build(tasks.find("noisy_line"), 3, {})
    task.batches.generator = torch.default_generator  # type: ignore[attr-defined]  # it is one of ours
    assert SeedTask(task, resumable=False).shares_generators
