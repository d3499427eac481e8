"""A user's own task or mode, named `FILE.py:NAME` or `package.module:NAME`: found, hashed, imported."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from gradlab.errors import GradlabError, ModeError, TaskError, shortened, unknown, user_location

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_ERRORS: dict[str, type[GradlabError]] = {"task": TaskError, "mode": ModeError}


class FunctionName(NamedTuple):
    """Where a function comes from: `FILE.py:NAME`, `package.module:NAME`, or gradlab itself."""

    name: str  # as it is written in results
    function: str  # what to call in the file or module
    file: Path | None = None
    module: str | None = None
    kind: str = "task"  # or "mode": what it is for, in messages

    def error(self, message: str) -> GradlabError:
        """Return an error about this function, of the class of its kind."""
        return _ERRORS[self.kind](f"{self.kind} '{shortened(self.name)}'{message}")


def is_function_name(name: str) -> bool:
    """Return whether `name` has the form FILE.py:NAME or package.module:NAME."""
    place, colon, function = name.rpartition(":")
    if place.endswith(".py"):
        return True
    parts = place.split(".")
    return bool(colon) and all(part.isidentifier() for part in parts) and (len(parts) > 1 or function.isidentifier())


def find(name: str, folder: Path | None = None, kind: str = "task", *, fallback: Path | None = None) -> FunctionName:
    """Return the source of the function `name` without importing it.

    A relative FILE.py is looked for in `folder`, then in the current folder, then in `fallback`.

    Raises:
        TaskError, ModeError: the name has neither form, or the file does not exist.
    """
    place, _, function = name.rpartition(":")
    named = FunctionName(name, function, kind=kind)
    if not function.isidentifier():
        raise named.error(f": after the colon comes the name of a function, not '{shortened(function)}'")
    if place.endswith(".py"):
        if not Path(place).name.isprintable():  # it becomes part of results, and is shown
            raise named.error(": the name of its file has signs that cannot be shown; rename it")
        for parent in (folder, Path(), fallback):
            if parent is not None and _is_file(file := parent / place):
                return named._replace(name=f"{file.name}:{function}", file=file.resolve())
        raise named.error(f": there is no file {shortened(place)}")
    if not all(part.isidentifier() for part in place.split(".")):
        raise named.error(f" is neither a built-in {kind} nor FILE.py:NAME nor package.module:NAME")
    return named._replace(module=place)


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a name that is too long, or a folder that may not be looked into
        return False


def source_hash(named: FunctionName) -> str | None:
    """Return the SHA-256 of the file of a user's function without importing it; None for gradlab's own.

    Raises:
        TaskError, ModeError: the module does not exist, or its file cannot be read.
    """
    file = _file_of_module(named) if named.module else named.file
    if file is None:
        return None
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise named.error(f": {file} cannot be read: {error.strerror}") from None


def load(named: FunctionName) -> Callable[..., object]:
    """Import and return a user's function, again when its file has changed.

    Raises:
        TaskError, ModeError: the file does not import, or has no such function.
    """
    return _loaded(named, source_hash(named))


@lru_cache
def _loaded(named: FunctionName, source: str | None) -> Callable[..., object]:
    try:
        module = _import_file(named.file) if named.file else _import_module(cast("str", named.module), source)
    except (Exception, SystemExit) as error:
        where = user_location(error) or str(named.file or named.module)
        what = f"{type(error).__name__}: {shortened(error, 200)}"
        raise named.error(f" does not import\n{where}: {what}") from error
    function = getattr(module, named.function, None)
    if function is None:
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        what = unknown(f"function in {named.file or named.module}:", named.function, own)
        raise _ERRORS[named.kind](what)
    if not callable(function):
        raise named.error(f": {named.function} is not a function but of type {type(function).__name__}")
    return cast("Callable[..., object]", function)


_imported: dict[str, str | None] = {}  # modules of users, and the source they were imported from


def _file_of_module(named: FunctionName) -> Path | None:
    module = cast("str", named.module)
    _add_to_path(Path.cwd())
    try:
        spec = importlib.util.find_spec(module)
    except Exception as error:  # a package on the way to the module runs when it is looked into
        raise named.error(f": {type(error).__name__}: {shortened(error, 200)}") from None
    if spec is None:
        raise named.error(f": there is no module {module}, here or installed")
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
    _add_to_path(file.parent)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str, source: str | None) -> ModuleType:
    _add_to_path(Path.cwd())
    module = importlib.import_module(name)
    if _imported.setdefault(name, source) != source:
        _imported[name] = source
        importlib.reload(module)
    return module


def _add_to_path(folder: Path) -> None:
    """Put `folder` on the path and leave it there: a task may import its neighbours as late as when it is called."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
