"""A task given as an object: a function, also one of a notebook cell, or a `Task` for one seed."""

from __future__ import annotations

import copy
import functools
import random
from contextlib import contextmanager
from itertools import islice
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from gradlab import user_code
from gradlab.errors import TaskError, kind_of, shortened
from gradlab.tasks.builtin import BUILT_IN
from gradlab.tasks.fairness import HASHED
from gradlab.tasks.global_generators import global_states, seed_everything, set_global_states
from gradlab.tasks.hashing import hash_of
from gradlab.tasks.loading import checked_task
from gradlab.tasks.sources import decorated, hash_of_source, is_of_user, variables_of
from gradlab.tasks.task import SupervisedLoss, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAKE_IT = "pass a function that makes it: def my_task(seed): … return gradlab.Task(model, batches, loss)"


@contextmanager
def given_task(task: Task | Callable[..., object]) -> Iterator[str]:
    """Yield the word for this task in an experiment, until the end of the context.

    A function is called for every run. A `Task` is copied for every run, so it stays as it is.

    Raises:
        TaskError: the `Task` cannot be trained or copied.
    """
    if isinstance(task, Task):
        checked_task(task, "the Task")
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
        TaskError: it cannot be copied, or a copy would share what training changes.
    """
    _check_functions(task)
    try:
        return copy.deepcopy(task)
    except Exception as error:  # raised by classes of the user and of torch
        raise TaskError(
            f"the Task cannot be copied: {type(error).__name__}: {shortened(error, 120)}\n{_MAKE_IT}"
        ) from error


def _check_functions(task: Task) -> None:
    """Refuse a loss, criterion or metric that reads what training changes: copies of a function share its variables.

    Raises:
        TaskError: one cannot be called, or a variable holds a module with weights, a trained tensor, or a generator.
    """
    trained = {id(each) for each in task.model.parameters()}
    is_supervised = isinstance(task.loss, SupervisedLoss)
    metrics = [(f"metric '{name}'", metric) for name, metric in task.metrics.items()]
    criterion = task.loss.criterion if isinstance(task.loss, SupervisedLoss) else task.criterion
    for what, function in (("loss", task.loss), ("criterion", criterion), *metrics):
        if not callable(function) and (what == "loss" or is_supervised):
            raise TaskError(f"the Task's {what} must be a function or a module, got {kind_of(function)}")
        for name, value in _variables_read(function, set()):
            if any(id(each) in trained for each in _weights_of(value)):
                raise TaskError(
                    f"the Task's {what} uses the model in '{name}', but every mode trains a copy of the model\n"
                    "use the model that is passed to it: def function(model, batch): …"
                )
            if _is_changed_by_training(value):
                raise TaskError(
                    f"the Task's {what} uses '{name}', {kind_of(value)}, which all modes would share\n{_MAKE_IT}"
                )


def _variables_read(value: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """Yield the variables that a function and the user's functions that it calls read, with their names."""
    if isinstance(value, functools.partial):
        for each in (value.func, *value.args, *value.keywords.values()):
            yield from _variables_read(each, seen)
        return
    function = value.__func__ if isinstance(value, MethodType) else value
    if not isinstance(function, FunctionType):
        function = getattr(type(function), "__call__", None)  # noqa: B004 - the method, not whether there is one
    if not isinstance(function, FunctionType):
        return
    function = decorated(function)
    if id(function) in seen or not is_of_user(function):
        return
    seen.add(id(function))
    for name, each in (*variables_of(function), *_defaults_of(function)):
        yield from ((name, part) for part in (each if isinstance(each, list | tuple) else [each]))
        if isinstance(each, functools.partial | MethodType | FunctionType):
            yield from _variables_read(each, seen)


def _defaults_of(function: FunctionType) -> Iterator[tuple[str, Any]]:
    values = function.__defaults__ or ()
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    yield from zip(names[len(names) - len(values) :], values, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


def _weights_of(value: Any) -> list[Any]:
    from torch import nn

    return list(value.parameters()) if isinstance(value, nn.Module) else [value]


def _is_changed_by_training(value: object) -> bool:
    """Return whether training may change a value: a module, a trained tensor or a generator. Torch's losses stay."""
    import torch

    if isinstance(value, torch.nn.Module):
        is_loss = type(value).__module__ == torch.nn.MSELoss.__module__
        return not is_loss and any(True for _ in (*value.parameters(), *value.buffers()))
    if isinstance(value, torch.Tensor):
        return value.requires_grad
    return isinstance(value, torch.Generator | random.Random) or hasattr(value, "bit_generator")  # NumPy's


def _name_of(function: Any) -> str:
    """Return the name of a function in results, which no built-in task has."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", type(function).__name__).strip("<>")
    return f"{name} of your own" if name in BUILT_IN else name


def _source_of_task(task: Task) -> str:
    """Return the SHA-256 of a task's code, weights, criterion and first validation batches, and of a list of batches.

    Of other batches, the first is compared when a run is reused.
    """
    with_code = [task.loss, task.criterion, type(task.model), *(type(each) for each in task.model.modules())]
    copied = copied_task(task)
    batches = copied.batches if isinstance(copied.batches, list | tuple) else ()
    data = [copied.model.state_dict(), copied.criterion, batches]
    sources = map(hash_of_source, [*with_code, *task.metrics.values()])
    return hash_of([str(task.model), *map(hash_of, data), *sources, *_hashes_of_validation(copied)])


def _hashes_of_validation(task: Task) -> list[str]:
    """Return the SHA-256 of each of the first validation batches; a DataLoader that shuffles draws them alike."""
    if task.validation is None:
        return []
    before = global_states()
    try:
        seed_everything(0)
        return [hash_of(batch) for batch in islice(task.validation, HASHED)]
    finally:
        set_global_states(before)
