"""Gradient accumulation: windows, their means, and batches of unequal size that the loss counts."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from gradlab import modes, optimizers, tasks
from gradlab.engines.accumulation import update_count
from gradlab.engines.loop import train
from gradlab.errors import TaskError
from gradlab.tasks import Task
from tests.test_loop import (
    Batches,
    Lying,
    by_hand,
    gradients,
    numbers,
    one_weight,
    optimizer_of,
    slope_one,
    updates_of,
    weights,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor


# (d) Accumulation


@pytest.mark.parametrize("every", [2, 3, 6])
def test_accumulating_micro_batches_is_training_on_the_big_batch(every: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    x, y = torch.randn(24, 3, dtype=torch.float64), torch.randn(24, 1, dtype=torch.float64)
    big = Task.supervised(model, [(x[i : i + 12], y[i : i + 12]) for i in (0, 12)], nn.MSELoss())
    size = 12 // every
    small = Task.supervised(
        copy.deepcopy(model), [(x[i : i + size], y[i : i + size]) for i in range(0, 24, size)], nn.MSELoss()
    )
    big_losses = [row.loss for row in train(big, modes.zero_grad(), optimizer_of("SGD", big, {"lr": 0.05}), epochs=25)]
    rows = list(train(small, modes.accumulate(every), optimizer_of("SGD", small, {"lr": 0.05}), epochs=25))
    means = [sum(row.loss for row in rows[i : i + every]) / every for i in range(0, len(rows), every)]
    # The same sums of 12 terms in another order: some 12·2⁻⁵³ ≈ 1e-15 of a gradient of order 1, times lr, in each of
    # 50 updates, of which a stable descent magnifies none: below 1e-13 with room for the network's depth.
    assert means == pytest.approx(big_losses, rel=1e-13, abs=1e-13)
    for ours, theirs in zip(weights(small.model), weights(big.model), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-13, atol=1e-13)


def test_the_logged_loss_is_that_of_the_micro_batch_not_divided() -> None:
    task = one_weight([2.0, 4.0], start=3.0)
    rows = list(train(task, modes.accumulate(2), optimizer_of("vanilla", task, {"lr": 0.0}), epochs=1))
    assert [row.loss for row in rows] == [6.0, 12.0]


@pytest.mark.parametrize(("word", "moved"), [("accumulate:2", 3.0), ("accumulate:2:sum", 6.0)])
def test_a_window_moves_by_the_mean_or_sum_of_its_gradients(word: str, moved: float) -> None:
    task = one_weight([2.0, 4.0], start=0.0)
    list(train(task, modes.parse(word), optimizer_of("vanilla", task, {"lr": 1.0}), epochs=1))
    assert numbers(weights(task.model)) == [-moved]


def test_keep_applies_to_the_gradient_of_the_whole_window() -> None:
    task = one_weight([2.0, 4.0], start=0.0)
    list(train(task, modes.rule(0.5, 2), optimizer_of("vanilla", task, {"lr": 1.0}), epochs=2))
    # G: 3, then 3/2 + 3 = 4.5; w: -3, then -7.5; left in .grad: 2.25
    assert numbers([*weights(task.model), *gradients(task.model)]) == [-7.5, 2.25]


@pytest.mark.parametrize("kind", [list, Batches])
@pytest.mark.parametrize(("more", "end"), [([], {"epochs": 1}), ([2.0, 2.0, 2.0], {"steps": 6})], ids=["epoch", "run"])
def test_a_shorter_last_window_is_divided_by_its_own_length(
    kind: Callable[[list[float]], Iterable[float]], more: list[float], end: dict[str, Any]
) -> None:
    task = one_weight(kind([1.0, 3.0, 2.0, 6.0, 8.0, 4.0, *more]), start=0.0)
    list(train(task, modes.accumulate(4), optimizer_of("vanilla", task, {"lr": 1.0}), **end))
    assert numbers(weights(task.model)) == [-(1 + 3 + 2 + 6) / 4 - (8 + 4) / 2]


@pytest.mark.parametrize("said", [3, 5, 6, 8, 20])
def test_a_wrong_len_is_an_error_where_a_window_needs_it(said: int) -> None:
    task = one_weight(Lying(slope_one(7), said))
    rows = train(task, modes.accumulate(4), optimizer_of("vanilla", task, {"lr": 0.1}), epochs=1)
    with pytest.raises(TaskError, match=rf"batches, but len\(\) is {said}"):
        list(rows)


@pytest.mark.parametrize("said", [1, 9])
def test_a_wrong_len_does_no_harm_where_no_window_needs_it(said: int) -> None:
    assert updates_of("zero_grad", Lying(slope_one(3), said), epochs=2) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("length", [1, 4, 5, 8])
@pytest.mark.parametrize("every", [1, 3, 4])
@pytest.mark.parametrize("ends", [{"epochs": 3}, {"steps": 11}, {"epochs": 2, "steps": 7}, {"epochs": 9, "steps": 7}])
def test_the_update_count_is_that_of_the_training(length: int, every: int, ends: dict[str, Any]) -> None:
    made = tasks.build(tasks.find("noisy_line"), 1, {"samples": length})
    optimizer = optimizers.build("SGD", made.model.parameters(), {"lr": 0.01})
    rows = list(train(made, modes.rule(0.0, every), optimizer, **ends))
    assert update_count(length, every, **ends) == rows[-1].update + 1


# Batches of unequal size, which tell how many items they have


def pairs(task: Task) -> Task:
    """Return the task with the loss (sum over the batch's rows, number of rows)."""
    return Task(
        task.model,
        task.batches,
        lambda model, batch: (nn.functional.mse_loss(model(batch[0]), batch[1], reduction="sum"), len(batch[0])),
    )


def unequal(sizes: Sequence[int] = (1, 5, 2, 7, 3, 4, 6)) -> Task:
    """Return a linear regression in float64, in batches of these sizes."""
    torch.manual_seed(5)
    batches = [(torch.randn(n, 3, dtype=torch.float64), torch.randn(n, 1, dtype=torch.float64)) for n in sizes]
    return Task.supervised(nn.Linear(3, 1).double(), batches, nn.functional.mse_loss)


def joined(task: Task, every: int) -> Task:
    """Return the task with each window of batches made one large batch."""
    batches: Any = list(task.batches)
    large = [
        (torch.cat([x for x, _ in window]), torch.cat([y for _, y in window]))
        for window in (batches[start : start + every] for start in range(0, len(batches), every))
    ]
    return Task(task.model, large, task.loss)


def trained_weights(task: Task, word: str, epochs: int = 3, **options: Any) -> Tensor:
    sgd = torch.optim.SGD(task.model.parameters(), 0.05)
    list(train(task, modes.parse(word), sgd, epochs=epochs, **options))
    return torch.cat([each.flatten() for each in weights(task.model)])


@pytest.mark.parametrize(("keep", "every"), [(0.0, 3), (0.5, 3), (1.0, 2), (-0.25, 4), (0.5, 1)])
def test_a_window_of_counted_unequal_batches_is_the_large_batch(keep: float, every: int) -> None:
    found = trained_weights(pairs(unequal()), f"keep={keep},every={every}")
    expected = trained_weights(joined(unequal(), every), f"keep={keep},every=1")
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)  # float64, another order of summing


def test_the_mean_of_means_is_not() -> None:
    expected = trained_weights(joined(unequal(), 3), "zero_grad")
    for wrong in (pairs(unequal()), unequal()):
        found = trained_weights(wrong, "accumulate:3:means")
        assert torch.dist(found, expected) / expected.norm() > 0.01
    assert torch.equal(found, trained_weights(unequal(), "accumulate:3"))  # a loss without a count cannot be weighted


def test_the_sum_of_unequal_batches_is_that_of_their_means() -> None:
    assert torch.equal(
        trained_weights(pairs(unequal()), "accumulate:3:sum"), trained_weights(unequal(), "accumulate:3:sum")
    )


def test_batches_of_one_size_need_no_count() -> None:
    found, expected = (trained_weights(each, "accumulate:3") for each in (pairs(unequal([4] * 7)), unequal([4] * 7)))
    assert torch.allclose(found, expected, rtol=1e-13)


def test_clipping_sees_the_whole_mean() -> None:
    found = trained_weights(pairs(unequal()), "accumulate:3", clip_norm=0.1)
    assert torch.allclose(found, trained_weights(joined(unequal(), 3), "zero_grad", clip_norm=0.1), rtol=1e-12)


def test_a_row_has_the_mean_loss_and_its_items() -> None:
    task = unequal()
    sgd = optimizer_of("SGD", task, {"lr": 0.05})
    rows = list(train(pairs(task), modes.parse("accumulate:3"), sgd, epochs=1))
    assert [row.items for row in rows] == [1, 5, 2, 7, 3, 4, 6]
    again = unequal()
    expected = by_hand(again, modes.parse("zero_grad"), optimizer_of("SGD", again, {"lr": 0.05}), epochs=1)
    assert rows[0].loss == pytest.approx(expected[0].loss, rel=1e-14)


def test_a_parameter_unused_in_a_window_keeps_its_gradient() -> None:
    model = nn.ModuleDict({"used": nn.Linear(1, 1, bias=False), "idle": nn.Linear(1, 1, bias=False)})
    idle: Any = model["idle"]
    idle.weight.grad = torch.ones(1, 1)
    task = Task(model, [1.0, 3.0], lambda model, x: (model["used"](torch.tensor([x])).sum() * x, x))
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    list(train(task, modes.parse("keep=0.5,every=2"), sgd, epochs=1))
    assert idle.weight.grad.item() == 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sizes", [[1, 8192], [8192, 1], [1, 1, 60000], [3] * 5], ids=str)
def test_in_half_precision_very_unequal_batches_are_averaged(sizes: list[int], dtype: torch.dtype) -> None:
    slopes = [16.0 - nth for nth in range(len(sizes))]  # 16 · 8192 is beyond float16
    model = one_weight([], start=0.01).model.to(dtype)
    task = Task(
        model,
        list(zip(slopes, sizes, strict=True)),
        lambda model, batch: (model.weight.sum() * batch[0] * batch[1], batch[1]),
    )
    sgd = torch.optim.SGD(model.parameters(), 1.0)
    list(train(task, modes.parse(f"accumulate:{len(sizes)}"), sgd, epochs=1))
    mean = sum(x * n for x, n in zip(slopes, sizes, strict=True)) / sum(sizes)
    (moved,) = weights(model)
    assert 0.01 - moved.item() == pytest.approx(mean, rel=0.02)  # the rounding of a few operations of 8 bits


def test_counting_four_equal_batches_changes_no_bit() -> None:
    found, expected = (trained_weights(each, "accumulate:4") for each in (pairs(unequal([4] * 8)), unequal([4] * 8)))
    assert torch.equal(found, expected)  # all factors are powers of two
