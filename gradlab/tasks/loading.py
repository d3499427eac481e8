"""From the name of a task to a task: finding it, importing a user's own, checking its options, building it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from gradlab.errors import TaskError, place_of, shortened, unknown
from gradlab.tasks.builtin import BUILT_IN
from gradlab.tasks.task import Task

if TYPE_CHECKING:
    from types import ModuleType


class TaskName(NamedTuple):
    """Where a task comes from: built in, `FILE.py:NAME` or `package.module:NAME`."""

    name: str  # as it is written in results
    function: str  # the short name, and what to call in the file or module
    file: Path | None = None
    module: str | None = None


def find(name: str, folder: Path | None = None) -> TaskName:
    """Say where the task `name` comes from, without importing it.

    A relative FILE.py is looked for in `folder`, then in the current folder.

    Raises:
        TaskError: no built-in task has that name, or there is no such file.
    """
    place, colon, function = name.rpartition(":")
    if not colon:
        key = name.strip().lower().replace("-", "_")
        if key in BUILT_IN:
            return TaskName(key, key)
        hint = f"\na task in a file is named {shortened(name)}:FUNCTION" if name.endswith(".py") else ""
        raise TaskError(unknown("task", name, [*BUILT_IN, "FILE.py:NAME", "package.module:NAME"]) + hint)
    asked = f"task '{shortened(name)}'"
    if not function.isidentifier():
        raise TaskError(f"{asked}: after the colon comes the name of a function, not '{shortened(function)}'")
    if place.endswith(".py"):
        for file in (folder / place if folder else Path(place), Path(place)):
            if file.is_file():
                return TaskName(f"{file.name}:{function}", function, file=file.resolve())
        raise TaskError(f"{asked}: there is no file {shortened(place)}")
    if not all(part.isidentifier() for part in place.split(".")):
        raise TaskError(f"{asked} is neither a built-in task nor FILE.py:NAME nor package.module:NAME")
    return TaskName(name, function, module=place)


def source_hash(task: TaskName) -> str | None:
    """Return the SHA-256 of the file that a user's task stands in, without importing it; None for a built-in task."""
    file = _file_of_module(task) if task.module else task.file
    if file is None:
        return None
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise TaskError(f"task '{task.name}': {file} cannot be read: {error.strerror}") from None


def load(task: TaskName) -> Callable[..., object]:
    """Import and return the function that makes the task; anew when its file has changed since.

    Raises:
        TaskError: the file does not import, or has no such function.
    """
    if task.file is None and task.module is None:
        return BUILT_IN[task.function]
    return _loaded(task, source_hash(task))


@lru_cache
def _loaded(task: TaskName, source: str | None) -> Callable[..., object]:
    try:
        module = _import_file(task.file) if task.file else _import_module(cast("str", task.module), source)
    except (Exception, SystemExit) as error:
        where = place_of(error) or str(task.file or task.module)
        what = f"{type(error).__name__}: {shortened(error, 200)}"
        raise TaskError(f"task '{task.name}' does not import\n{where}: {what}") from error
    function = getattr(module, task.function, None)
    if function is None:
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        raise TaskError(unknown(f"function in {task.file or task.module}:", task.function, own))
    if not callable(function):
        raise TaskError(f"task '{task.name}': {task.function} is not a function but of type {type(function).__name__}")
    return cast("Callable[..., object]", function)


def check_options(task: TaskName, options: Mapping[str, object]) -> None:
    """Check `options` against the signature of the task's function; a user's own is imported for that.

    Raises:
        TaskError: an option that the task does not take, one that it needs, or one of the wrong type.
    """
    try:
        parameters = dict(inspect.signature(load(task)).parameters)
    except ValueError:
        raise TaskError(f"task '{task.name}': {task.function} is no function that tells its parameters") from None
    if parameters.pop("seed", None) is None:
        raise TaskError(f"task '{task.name}' must take a seed: def {task.function}(seed: int, …) -> Task")
    named = {key: each for key, each in parameters.items() if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for key, value in options.items():
        if key in named:
            _check_type(task, key, value, named[key].annotation)
        elif not takes_any:
            raise TaskError(f"task '{task.name}': {unknown('option', key, named)}")
    for key, parameter in named.items():
        if parameter.default is parameter.empty and key not in options:
            raise TaskError(f"task '{task.name}' needs the option {key}: --set task_options.{key}=…")


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
        raise TaskError(f"{asked} returned a {type(made).__name__}; return gradlab.Task(model, batches, loss)")
    if not isinstance(made.model, nn.Module):
        raise TaskError(f"{asked}: its model is a {type(made.model).__name__}, not a torch.nn.Module")
    if isinstance(made.batches, Iterator) or not isinstance(made.batches, Iterable):
        kind = type(made.batches).__name__
        raise TaskError(f"{asked}: its batches are a {kind}, which gives no second epoch; use a list or a DataLoader")
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


_imported: dict[str, str | None] = {}  # modules of users, and the source they were imported from

_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "int": (int, "an integer"),
    "float": ((int, float), "a number"),
    "str": (str, "a string"),
    "bool": (bool, "true or false"),
}


def _check_type(task: TaskName, key: str, value: object, annotation: object) -> None:
    kind = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    if kind not in _KINDS:
        return
    wanted, words = _KINDS[kind]
    if (
        task.function == task.name and kind == "int" and isinstance(value, int) and value < 1
    ):  # true of all built-in ones
        raise TaskError(f"task '{task.name}': option {key} must be at least 1, got {value}")
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
        raise TaskError(f"task '{task.name}': option {key} must be {words}, got {shortened(repr(value))}")


def _file_of_module(task: TaskName) -> Path | None:
    module = cast("str", task.module)
    _let_import_from(Path.cwd())
    try:
        spec = importlib.util.find_spec(module)
    except Exception as error:  # a package on the way to the module runs when it is looked into
        raise TaskError(f"task '{task.name}': {type(error).__name__}: {shortened(error, 200)}") from None
    if spec is None:
        raise TaskError(f"task '{task.name}': there is no module {module}, here or installed")
    return Path(spec.origin) if spec.origin and Path(spec.origin).is_file() else None


def _import_file(file: Path) -> ModuleType:
    name = file.stem
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) != str(file):
        name = f"{name}@{file.parent}"  # another module has that name: leave it alone
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickle look up the module of a class
    _let_import_from(file.parent)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str, source: str | None) -> ModuleType:
    _let_import_from(Path.cwd())
    module = importlib.import_module(name)
    if _imported.setdefault(name, source) != source:
        _imported[name] = source
        importlib.reload(module)
    return module


def _let_import_from(folder: Path) -> None:
    """Put `folder` on the path and leave it there: a task may import its neighbours as late as when it is called."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
