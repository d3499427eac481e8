"""Turn the name of a task into a task: find it, import it, check its options, build it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gradlab import user_code
from gradlab.errors import TaskError, kind_of, raise_together, shortened, unknown
from gradlab.rows import TAKEN_NAMES
from gradlab.signatures import option_faults, options_among
from gradlab.tasks.builtin import BUILT_IN
from gradlab.tasks.global_generators import seed_everything
from gradlab.tasks.task import SupervisedLoss, Task, epoch_length

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
    subject, least = f"task '{task.name}'", 1 if task.name in BUILT_IN else None
    taken = options_among(parameters.values())
    yield from option_faults(subject, taken, options, "task_options", error=TaskError, least=least)


def build(task: TaskName, seed: int, options: Mapping[str, object]) -> Task:
    """Seed all global generators, call the task's function, and return its task.

    Raises:
        TaskError: the function does not return a trainable `Task`.
    """
    function = load(task)
    seed_everything(seed)
    return checked_task(function(seed=seed, **options), f"task '{task.name}'")


def checked_task(made: object, asked: str) -> Task:
    """Return what a task's function made, or a user's `Task`, if it can be trained.

    Raises:
        TaskError: it is no `Task`, its batches allow one epoch only, or its model has no trainable parameter.
    """
    from torch import nn

    if not isinstance(made, Task):
        raise TaskError(f"{asked} returned {kind_of(made)}; return gradlab.Task(model, batches, loss)")
    if not isinstance(made.model, nn.Module):
        raise TaskError(f"{asked}: its model is {kind_of(made.model)}, not a torch.nn.Module")
    if isinstance(made.batches, Iterator) or not isinstance(made.batches, Iterable):
        kind = kind_of(made.batches)
        raise TaskError(f"{asked}: its batches are {kind}, which allows one epoch only; use a list or a DataLoader")
    if any(nn.parameter.is_lazy(each) for each in made.model.state_dict().values()):
        raise TaskError(f"{asked}: its model is lazy, so its weights have no shape yet; call it on a batch first")
    if not any(parameter.requires_grad for parameter in made.model.parameters()):
        raise TaskError(f"{asked}: its model has no trainable parameter; set requires_grad")
    raise_together(list(_faults_of_evaluation(asked, made)), TaskError)
    return made


def _faults_of_evaluation(asked: str, made: Task) -> Iterator[TaskError]:
    """Yield what is wrong with the validation batches and the metrics, as far as no batch is needed to see it."""
    validation: Any = made.validation
    metrics: Any = made.metrics
    if wrong := _fault_of_validation(made):
        yield TaskError(f"{asked}: its validation is {wrong}")
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


def _fault_of_validation(made: Task) -> str:
    """Return why the validation batches cannot be iterated as such, and what would work; "" if they can."""
    validation: Any = made.validation
    if isinstance(validation, Iterator):
        return f"{kind_of(validation)}, which allows one pass only; use a list or a DataLoader"
    if not isinstance(validation, Iterable | None) or isinstance(validation, str | bytes | Mapping):
        return f"{kind_of(validation)}, not batches; use a list, as in validation=[(x, y)], or a DataLoader"
    if _is_pair(validation) and not _has_tensors(made):
        return "one batch, not a list of batches; write validation=[(x, y)]"
    return ""


def _is_pair(value: object) -> bool:
    """Return whether a value is a pair of tensors or arrays."""
    return isinstance(value, list | tuple) and len(value) == 2 and all(hasattr(each, "shape") for each in value)


def _has_tensors(made: Task) -> bool:
    """Return whether a batch of the task may be a single tensor, as far as no batch has to be drawn to see it."""
    if isinstance(made.loss, SupervisedLoss):
        return False
    return not (isinstance(made.batches, list | tuple) and made.batches and not hasattr(made.batches[0], "shape"))
