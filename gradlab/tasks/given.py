"""A task given as an object: a function, also one of a notebook cell, or a `Task` for one seed."""

from __future__ import annotations

import copy
import functools
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from gradlab import user_code
from gradlab.errors import TaskError, shortened
from gradlab.tasks.builtin import BUILT_IN
from gradlab.tasks.fairness import HASHED
from gradlab.tasks.hashing import hash_of
from gradlab.tasks.sources import hash_of_source
from gradlab.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def given_task(task: Task | Callable[..., object]) -> Iterator[str]:
    """Yield the word for this task in an experiment, until the end of the context.

    A function is called for every run. A `Task` is copied for every run, so it stays as it is.

    Raises:
        TaskError: the `Task` cannot be copied.
    """
    if isinstance(task, Task):
        found = user_code.given(_copying(task), "task", _source_of_task(task))
    else:
        found = user_code.given(task, _name_of(task), hash_of_source(task))
    with found as word:
        yield word


def _copying(task: Task) -> Callable[..., Task]:
    def copied(seed: int) -> Task:  # noqa: ARG001 - all tasks take a seed
        return copied_task(task)

    return copied


def copied_task(task: Task) -> Task:
    """Return a deep copy of a task.

    Raises:
        TaskError: it cannot be copied.
    """
    try:
        return copy.deepcopy(task)
    except Exception as error:  # raised by classes of the user and of torch
        raise TaskError(
            f"the Task cannot be copied: {type(error).__name__}: {shortened(error, 120)}\n"
            "pass a function that makes it: def my_task(seed): … return gradlab.Task(model, batches, loss)"
        ) from error


def _name_of(function: Any) -> str:
    """Return the name of a function in results, which no built-in task has."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", type(function).__name__).strip("<>")
    return f"{name} of your own" if name in BUILT_IN else name


def _source_of_task(task: Task) -> str:
    """Return the SHA-256 of a task's code, weights and validation batches. Batches are compared at a run's reuse."""
    with_code = [task.loss, task.criterion, type(task.model), *(type(each) for each in task.model.modules())]
    copied = copied_task(task)
    weights = hash_of(copied.model.state_dict())
    validation = _hashes_of_validation(copied)
    return hash_of([weights, str(task.model), *map(hash_of_source, [*with_code, *task.metrics.values()]), *validation])


def _hashes_of_validation(task: Task) -> list[str]:
    """Return the SHA-256 of each of the first validation batches; a DataLoader that shuffles draws them alike."""
    import torch

    if task.validation is None:
        return []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [hash_of(batch) for batch in islice(task.validation, HASHED)]
