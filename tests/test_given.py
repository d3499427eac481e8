"""A task object or function that Python code passes: copied, named, and part of a run's identity."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from gradlab import Task
from gradlab.errors import ExperimentError, TaskError
from tests.api.making import my_task, short

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_a_task_object_is_copied_and_stays_as_it_was() -> None:
    task = my_task(0)
    before = {name: each.clone() for name, each in task.model.state_dict().items()}
    result = short(task)
    losses = [run.losses[0] for run in result]
    assert losses[0] == losses[1]
    same = {name: torch.equal(each, before[name]) for name, each in task.model.state_dict().items()}
    assert same == {"weight": True, "bias": True}
    assert task.model.weight.grad is None
    assert result["zero_grad", 42].model is not task.model


def test_a_task_object_has_one_seed() -> None:
    with pytest.raises(ExperimentError, match="a Task object has one start, so it cannot train 3 seeds"):
        short(my_task(0), seeds=3)


def test_a_task_that_cannot_be_copied_is_refused() -> None:
    task = my_task(0)
    with pytest.raises(TaskError, match="the Task cannot be copied: TypeError"):
        short(Task(task.model, [threading.Lock()], task.loss))


def test_a_task_with_other_weights_is_another_run() -> None:
    short(my_task(0))
    torch.manual_seed(1)
    assert [run.cached for run in short(my_task(0))] == [False, False]


def test_validation_that_draws_from_any_generator_is_one_run() -> None:
    def task() -> Task:
        torch.manual_seed(3)
        return replace(my_task(0), validation=Augmented())

    short(task())
    random.seed(1)
    np.random.seed(1)
    before = random.getstate()
    assert [run.cached for run in short(task())] == [True, True]
    assert random.getstate() == before


class Augmented:
    """Validation batches with noise of Python and NumPy."""

    def __iter__(self) -> Iterator[Any]:
        noise = random.random() + np.random.random()  # noqa: S311
        yield torch.full((2, 2), noise), torch.ones(2, 1)


def test_a_function_with_the_name_of_a_built_in_task_is_its_own() -> None:
    def noisy_line(seed: int) -> Task:
        return my_task(seed)

    own, built_in = short(noisy_line), short("noisy_line")
    assert own["zero_grad", 42].first_loss != built_in["zero_grad", 42].first_loss


def test_the_loss_of_another_supervised_task_needs_no_criterion() -> None:
    other = Task.supervised(torch.nn.Linear(1, 1), [(torch.ones(1, 1), torch.ones(1, 1))], torch.nn.MSELoss())
    assert short(Task(other.model, other.batches, other.loss)).ok
    with pytest.raises(TaskError, match="criterion must be a function or a module, got None"):
        short(Task.supervised(other.model, other.batches, None))  # type: ignore[arg-type]
