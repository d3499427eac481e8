"""What a task's loss may return, and how errors say what it must be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from gradlab import modes
from gradlab.engines.loop import train
from gradlab.errors import TaskError
from gradlab.tasks import Task
from tests.test_loop import (
    optimizer_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("loss", "complaint"),
    [
        (lambda model, x: model(x), r"must be a scalar( tensor)?, got a tensor of shape \(3, 1\); take its mean"),
        (
            lambda model, x: model(x).sum().item(),
            r"must be a scalar tensor, got a float; return a scalar tensor or a tuple \(sum, count\)",
        ),
        (lambda _model, _x: None, "must be a scalar tensor, got None"),
        (lambda model, x: [model(x).sum(), 3], r"got a list; return a scalar tensor or a tuple \(sum, count\)$"),
        (lambda _model, _x: (None, 3), r"\(sum, count\) with None as the sum; the sum must be a scalar tensor"),
        (lambda _model, _x: (3, 3), r"\(sum, count\) with an int as the sum"),
        (lambda model, x: (model(x), 3), r"with a tensor of shape \(3, 1\) as the sum; .* a scalar tensor$"),
        (lambda model, x: model(x).sum().detach(), "has no graph, so"),
        (lambda _model, x: x.sum(), "has no graph, so"),
    ],
    ids=["vector", "float", "nothing", "list", "no sum", "number", "vector sum", "detached", "of the batch alone"],
)
def test_a_loss_without_backward_is_an_error_of_the_task(loss: Callable[[Any, Any], Any], complaint: str) -> None:
    task = Task(nn.Linear(1, 1), [torch.ones(3, 1)], loss)
    with pytest.raises(TaskError, match=complaint):
        next(train(task, modes.zero_grad(), optimizer_of("SGD", task, {"lr": 0.1}), epochs=1))


def test_a_loss_of_one_element_is_a_scalar_whatever_its_shape() -> None:
    task = Task(nn.Linear(1, 1), [torch.ones(1, 1)], lambda model, x: model(x))
    (row,) = train(task, modes.zero_grad(), optimizer_of("SGD", task, {"lr": 0.1}), epochs=1)
    assert math.isfinite(row.loss)


@pytest.mark.parametrize("count", [0, -1, math.nan, math.inf, True, "7", torch.ones(2)], ids=str)
def test_a_count_that_counts_nothing_is_refused(count: object) -> None:
    task = Task(nn.Linear(1, 1), [torch.ones(1, 1)], lambda model, x: (model(x).sum(), count))
    with pytest.raises(TaskError, match=r"\(sum, count\) with count .*must be greater than 0"):
        next(train(task, modes.parse("zero_grad"), optimizer_of("SGD", task, {"lr": 0.1}), epochs=1))


def test_a_loss_of_three_values_is_refused() -> None:
    task = Task(nn.Linear(1, 1), [torch.ones(1, 1)], lambda model, x: (model(x).sum(), 1, 2))
    with pytest.raises(TaskError, match=r"3 values; return a scalar tensor or a pair \(sum, count\)"):
        next(train(task, modes.parse("zero_grad"), optimizer_of("SGD", task, {"lr": 0.1}), epochs=1))


def test_a_late_count_of_0_is_refused_with_its_step() -> None:
    batches = [torch.ones(n, 1) for n in (1, 1, 0)]
    task = Task(nn.Linear(1, 1), batches, lambda model, x: (model(x).sum(), len(x)))
    with pytest.raises(TaskError, match="with count 0 in step 2"):
        list(train(task, modes.parse("zero_grad"), optimizer_of("SGD", task, {"lr": 0.1}), epochs=1))


@pytest.mark.parametrize("word", ["zero_grad", "accumulate:2", "accumulate:2:sum", "accumulate:2:means"])
@pytest.mark.parametrize("first", [1.0, 2.0])
def test_a_pair_in_one_step_and_none_in_another_is_refused(first: float, word: str) -> None:
    def loss(model: Any, x: float) -> Any:
        made = model(torch.tensor([x])).sum()
        return (made, 1) if x == first else made

    task = Task(nn.Linear(1, 1), [1.0, 2.0], loss)
    with pytest.raises(TaskError, match=r"changed between a scalar and a pair \(sum, count\) in step 1"):
        list(train(task, modes.parse(word), optimizer_of("SGD", task, {"lr": 0.1}), epochs=1))


def test_a_count_may_be_a_tensor() -> None:
    task = Task(nn.Linear(1, 1), [torch.ones(4, 1)], lambda model, x: (model(x).sum(), torch.tensor(4)))
    (row,) = train(task, modes.parse("zero_grad"), optimizer_of("SGD", task, {"lr": 0.1}), epochs=1)
    assert row.items == 4
