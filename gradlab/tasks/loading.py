"""Turn the name of a task into a task: find it, import it, check its options, build it."""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gradlab import user_code
from gradlab.errors import TaskError, kind_of, nearest, raise_together, shortened, unknown
from gradlab.rows import TAKEN_NAMES
from gradlab.tasks.builtin import BUILT_IN
from gradlab.tasks.task import Task, epoch_length

if TYPE_CHECKING:
    from pathlib import Path

TaskName = user_code.FunctionName


def find(name: str, folder: Path | None = None) -> TaskName:
    """Find the task `name` without importing it.

    A relative FILE.py is searched for in `folder`, then in the current folder.

    Raises:
        TaskError: no built-in task has that name, or the file does not exist.
    """
    if ":" not in name:
        key = name.strip().lower().replace("-", "_")
        if key in BUILT_IN:
            return TaskName(key, key)
        hint = f"\nfor a task in a file, write {shortened(name)}:FUNCTION" if name.endswith(".py") else ""
        raise TaskError(unknown("task", name, [*BUILT_IN, "FILE.py:NAME", "package.module:NAME"]) + hint)
    return user_code.find(name, folder)


def load(task: TaskName) -> Callable[..., object]:
    """Return the function that makes the task. Import a user's file, and again after it changed.

    Raises:
        TaskError: the file cannot be imported, or has no such function.
    """
    return BUILT_IN[task.function] if task.name in BUILT_IN else user_code.load(task)


def check_options(task: TaskName, options: Mapping[str, object]) -> None:
    """Check `options` against the signature of the task's function. This imports a user's file.

    Raises:
        TaskError: an option is unknown, missing, or of the wrong type.
    """
    raise_together([fault for _, fault in faults_of_options(task, options)], TaskError)


def faults_of_options(task: TaskName, options: Mapping[str, object]) -> Iterator[tuple[str, TaskError]]:
    """Yield each invalid option with its error.

    Raises:
        TaskError: the task cannot be imported, its signature cannot be read, or it takes no seed.
    """
    try:
        parameters = dict(inspect.signature(load(task)).parameters)
    except ValueError:
        raise TaskError(f"task '{task.name}': the signature of {task.function} cannot be read; use a def") from None
    if parameters.pop("seed", None) is None:
        raise TaskError(f"task '{task.name}' must take a seed: def {task.function}(seed: int, …) -> Task")
    named = {key: each for key, each in parameters.items() if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    meant = set()
    for key, value in options.items():
        if key not in named and not takes_any:
            meant.add(nearest(key, named))
            yield key, TaskError(f"task '{task.name}': {unknown('option', key, named)}")
        elif key in named and (wrong := _wrong_type(task, value, named[key].annotation)):
            yield key, TaskError(f"task '{task.name}': option {key} must be {wrong}")
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in options and key not in meant:
            yield key, TaskError(f"task '{task.name}' needs the option {key}: --set task_options.{key}=…")


def build(task: TaskName, seed: int, options: Mapping[str, object]) -> Task:
    """Seed all global generators, call the task's function, and return its task.

    Raises:
        TaskError: the function does not return a trainable `Task`.
    """
    from torch import nn

    function = load(task)
    seed_everything(seed)
    made = function(seed=seed, **options)
    asked = f"task '{task.name}'"
    if not isinstance(made, Task):
        raise TaskError(f"{asked} returned {kind_of(made)}; return gradlab.Task(model, batches, loss)")
    if not isinstance(made.model, nn.Module):
        raise TaskError(f"{asked}: its model is {kind_of(made.model)}, not a torch.nn.Module")
    if isinstance(made.batches, Iterator) or not isinstance(made.batches, Iterable):
        kind = kind_of(made.batches)
        raise TaskError(f"{asked}: its batches are {kind}, which allows one epoch only; use a list or a DataLoader")
    if not any(parameter.requires_grad for parameter in made.model.parameters()):
        raise TaskError(f"{asked}: its model has no trainable parameter; set requires_grad")
    raise_together(list(_faults_of_evaluation(asked, made)), TaskError)
    return made


def _faults_of_evaluation(asked: str, made: Task) -> Iterator[TaskError]:
    """Yield what is wrong with the validation batches and the metrics, as far as no batch is needed to see it."""
    validation: Any = made.validation
    metrics: Any = made.metrics
    if isinstance(validation, Iterator) or not isinstance(validation, Iterable | None):
        wrong = f"its validation is {kind_of(validation)}, which allows one pass only; use a list or a DataLoader"
        yield TaskError(f"{asked}: {wrong}")
    elif validation is not None and epoch_length(validation) == 0:
        yield TaskError(f"{asked}: its validation set has no batch")
    if not isinstance(metrics, Mapping):
        yield TaskError(f'{asked}: its metrics are {kind_of(metrics)}; use a dict: {{"accuracy": function}}')
        return
    for name, metric in metrics.items():
        if not (isinstance(name, str) and name.isidentifier()):
            yield TaskError(f"{asked}: metric {shortened(repr(name))} needs a name of letters, digits and _")
        elif name in TAKEN_NAMES:
            yield TaskError(f"{asked}: a metric cannot be called '{name}', as a column is; try 'mean_{name}'")
        if not callable(metric):
            wrong = f"metric {shortened(repr(name))} is {kind_of(metric)}, not a function of model and batch"
            yield TaskError(f"{asked}: {wrong}")


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, torch and, if imported, NumPy; 0 ≤ seed < 2³²."""
    import torch

    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed)
    torch.manual_seed(seed)


_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "int": (int, "an integer"),
    "float": ((int, float), "a number"),
    "str": (str, "a string"),
    "bool": (bool, "true or false"),
}


def _wrong_type(task: TaskName, value: object, annotation: object) -> str:
    """Return the expected and the actual value of an option, for a message; "" if the value fits."""
    kind = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    if kind not in _KINDS:
        return ""
    wanted, words = _KINDS[kind]
    built_in = task.function == task.name
    if built_in and kind == "int" and isinstance(value, int) and value < 1:  # integers of built-in tasks are sizes
        return f"at least 1, got {value}"
    fits = isinstance(value, wanted) and not (isinstance(value, bool) and kind != "bool")
    return "" if fits else f"{words}, got {shortened(repr(value))}"
