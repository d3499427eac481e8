"""The map of lr and keep: its edge is that of theory, and its shares are those of gradlab's training."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from gradlab import train
from tests.pages.test_simulation import FULL, Setting
from tests.pages.tools import answers_in_node

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS, ROWS = 32, 16
DRAWS = 20


def diverges(setting: Setting) -> bool:
    """Return whether the loss on all samples passes 1,000 times its start, in gradlab's own training."""
    task, whole = setting.task, setting._replace(batch=FULL, every=1).task
    x, y = next(iter(whole.batches))
    optimizer = torch.optim.SGD(task.model.parameters(), lr=setting.lr)
    rows = train(task, f"keep={setting.keep},every={setting.every}", optimizer, steps=setting.steps)
    begin = 0.0
    for _ in range(setting.steps):
        with torch.no_grad():
            loss = torch.nn.functional.mse_loss(task.model(x), y).item()
        begin = begin or loss
        if not loss <= 1000 * begin:
            return True
        next(rows)
    return False


@pytest.mark.slow
def test_a_draw_diverges_where_gradlab_diverges(folder: Path) -> None:
    chosen = [
        Setting(lr, keep, every, 1, seed=seed, steps=60)
        for lr, keep, every in ((0.02, 1, 1), (0.1, 1, 2), (0.2, 0.3, 1), (0.25, 0, 1))
        for seed in range(8)
    ]
    expected = [diverges(each) for each in chosen]
    assert 8 < sum(expected) < 24
    assert answers_in_node([("diverges", each._asdict()) for each in chosen], folder) == expected


def test_shares_grow_with_lr_and_reach_all_draws(folder: Path) -> None:
    (found,) = answers_in_node([("map", Setting(steps=100)._asdict())], folder)
    counts = np.array(found["counts"]).reshape(ROWS, COLUMNS)
    assert found["progress"] == 1
    assert (counts[:, 0] == 0).all()
    assert (counts[:, -1] == DRAWS).all()
    assert np.diff(counts, axis=1).min() > -4  # but for chance
    reached = (counts[-1] > 0).argmax(), (counts[8] > 0).argmax()
    assert reached[0] < reached[1]  # with keep = 1, a smaller lr diverges


def test_a_cell_counts_the_draws_that_diverge_at_its_lr(folder: Path) -> None:
    setting = Setting(batch=1, steps=100)
    (found,) = answers_in_node([("map", setting._asdict())], folder)
    row, column = 12, next(nth for nth in range(COLUMNS) if 2 < found["counts"][12 * COLUMNS + nth] < 18)
    lr = 0.001 * 2000 ** ((column + 0.5) / COLUMNS)
    draws = [setting._replace(lr=lr, keep=row / (ROWS - 1), seed=setting.seed + nth) for nth in range(DRAWS)]
    each = answers_in_node([("diverges", draw._asdict()) for draw in draws], folder)
    assert sum(each) == found["counts"][row * COLUMNS + column]


def test_full_batches_need_no_simulation(folder: Path) -> None:
    (found,) = answers_in_node([("map", Setting(batch=FULL)._asdict())], folder)
    assert (found["progress"], found["key"]) == (1, "full 8")
    assert set(found["counts"]) == {-1}


def test_a_row_of_the_map_lies_around_its_keep(folder: Path) -> None:
    (rows,) = answers_in_node([("rowsOfMap", {})], folder)
    bounds = [0, *((row + 0.5) / (ROWS - 1) for row in range(ROWS - 1)), 1]
    # whole pixels of 300
    assert rows == [pytest.approx([high, low], abs=1 / 300) for low, high in pairwise(bounds)]


def test_training_from_the_minimum_diverges_beyond_the_edge_only(folder: Path) -> None:
    at_minimum = Setting(keep=0, noise=0, w1=1, w2=0.5, batch=1)
    chosen = [at_minimum._replace(lr=lr) for lr in (0.001, 0.01, 0.05, 1)]
    assert answers_in_node([("diverges", each._asdict()) for each in chosen], folder) == [False] * 3 + [True]
