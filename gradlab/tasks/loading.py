"""From the name of a task to a task: finding it, importing a user's own, checking its options, building it."""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from gradlab import user_code
from gradlab.errors import TaskError, kind_of, nearest, raise_together, shortened, unknown
from gradlab.tasks.builtin import BUILT_IN
from gradlab.tasks.task import Task

if TYPE_CHECKING:
    from pathlib import Path

TaskName = user_code.FunctionName


def find(name: str, folder: Path | None = None) -> TaskName:
    """Say where the task `name` comes from, without importing it.

    A relative FILE.py is looked for in `folder`, then in the current folder.

    Raises:
        TaskError: no built-in task has that name, or there is no such file.
    """
    if ":" not in name:
        key = name.strip().lower().replace("-", "_")
        if key in BUILT_IN:
            return TaskName(key, key)
        hint = f"\na task in a file is named {shortened(name)}:FUNCTION" if name.endswith(".py") else ""
        raise TaskError(unknown("task", name, [*BUILT_IN, "FILE.py:NAME", "package.module:NAME"]) + hint)
    return user_code.find(name, folder)


def load(task: TaskName) -> Callable[..., object]:
    """Return the function that makes the task; a user's own is imported, anew when its file has changed since.

    Raises:
        TaskError: the file does not import, or has no such function.
    """
    return BUILT_IN[task.function] if task.name in BUILT_IN else user_code.load(task)


def check_options(task: TaskName, options: Mapping[str, object]) -> None:
    """Check `options` against the signature of the task's function; a user's own is imported for that.

    Raises:
        TaskError: options that the task does not take or that have another type, and those that it needs.
    """
    raise_together([fault for _, fault in faults_of_options(task, options)], TaskError)


def faults_of_options(task: TaskName, options: Mapping[str, object]) -> Iterator[tuple[str, TaskError]]:
    """Yield each option that does not hold, and the error that says so.

    Raises:
        TaskError: the task does not import, or has parameters that cannot be read, or takes no seed.
    """
    try:
        parameters = dict(inspect.signature(load(task)).parameters)
    except ValueError:
        raise TaskError(f"task '{task.name}': {task.function} is no function that tells its parameters") from None
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
    """Seed every generator, call the task's function, and return its task.

    Raises:
        TaskError: what it returns is not a `Task` that can be trained.
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
        raise TaskError(f"{asked}: its batches are {kind}, which gives no second epoch; use a list or a DataLoader")
    if not any(parameter.requires_grad for parameter in made.model.parameters()):
        raise TaskError(f"{asked}: its model has no parameter to train")
    return made


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy (where it is loaded) and torch; 0 ≤ seed < 2³²."""
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
    """Say what the value of an option must be, and what it is; "" where it is that."""
    kind = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    if kind not in _KINDS:
        return ""
    wanted, words = _KINDS[kind]
    built_in = task.function == task.name
    if built_in and kind == "int" and isinstance(value, int) and value < 1:  # true of all built-in ones
        return f"at least 1, got {value}"
    fits = isinstance(value, wanted) and not (isinstance(value, bool) and kind != "bool")
    return "" if fits else f"{words}, got {shortened(repr(value))}"
