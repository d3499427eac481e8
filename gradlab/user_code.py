"""A user's own code, `FILE.py:NAME`, `package.module:NAME` or an object: find, hash and import it.

It is a task, a mode, an optimizer or a schedule.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from gradlab.errors import (
    GradlabError,
    ModeError,
    OptimizerError,
    TaskError,
    is_users_file,
    kind_of,
    shortened,
    unknown,
    user_location,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

_ERRORS: dict[str, type[GradlabError]] = {
    "task": TaskError,
    "mode": ModeError,
    "optimizer": OptimizerError,
    "schedule": OptimizerError,
}


class FunctionName(NamedTuple):
    """The source of a function: `FILE.py:NAME`, `package.module:NAME`, gradlab itself, or a function object."""

    name: str  # as written in results
    function: str  # its name in the file or module
    file: Path | None = None
    module: str | None = None
    kind: str = "task"  # or "mode", "optimizer", "schedule", for messages
    given: int | None = None  # the number of a function object, see `given`

    def error(self, message: str) -> GradlabError:
        """Return an error about this function: a TaskError, a ModeError or an OptimizerError."""
        return _ERRORS[self.kind](f"{self.kind} '{shortened(self.name)}'{message}")

    @property
    def noun(self) -> str:
        """What the name stands for."""
        return "class" if self.kind == "optimizer" else "function"


def title_of(name: str | FunctionName) -> str:
    """Return the name of an optimizer or a schedule in results and messages."""
    return name if isinstance(name, str) else name.name


class _Given(NamedTuple):
    """A function object that Python code passed instead of a name."""

    name: str
    function: Callable[..., object]
    source: str


_given: dict[str, _Given] = {}  # by the word that stands for it
_numbers = count(1)


@contextmanager
def given(function: Callable[..., object], name: str, source: str) -> Iterator[str]:
    """Yield a word that `find` accepts for this function object, until the end of the context.

    Args:
        function: the function.
        name: its name in results.
        source: the SHA-256 of its source.
    """
    word = f"given:{next(_numbers)}"
    _given[word] = _Given(name, function, source)
    try:
        yield word
    finally:
        del _given[word]


@contextmanager
def given_with(word: str, more: str) -> Iterator[str]:
    """Yield another word for the function object of a word, whose source depends on `more`, too."""
    known = _given[word]
    source = hashlib.sha256(f"{known.source}{more}".encode()).hexdigest()
    with given(known.function, known.name, source) as other:
        yield other


def is_function_name(name: str) -> bool:
    """Return whether `name` has the form FILE.py:NAME or package.module:NAME."""
    place, colon, function = name.rpartition(":")
    if place.endswith(".py"):
        return True
    parts = place.split(".")
    return bool(colon) and all(part.isidentifier() for part in parts) and (len(parts) > 1 or function.isidentifier())


def find(name: str, folder: Path | None = None, kind: str = "task", *, fallback: Path | None = None) -> FunctionName:
    """Return the source of the function `name` without importing it.

    A relative FILE.py is searched in `folder`, then in the current folder, then in `fallback`.

    Raises:
        GradlabError: the name has another form, or the file does not exist.
    """
    place, _, function = name.rpartition(":")
    if name in _given:
        return FunctionName(_given[name].name, _given[name].name, kind=kind, given=int(function))
    named = FunctionName(name, function, kind=kind)
    if not function.isidentifier():
        raise named.error(f": expected a {named.noun} name after the colon, got '{shortened(function)}'")
    if place.endswith(".py"):
        if not Path(place).name.isprintable():  # results contain it
            raise named.error(": the file name has unprintable characters. Rename the file.")
        for parent in (folder, Path(), fallback):
            if parent is not None and _is_file(file := parent / place):
                return named._replace(name=f"{file.name}:{function}", file=file.resolve())
        raise named.error(f": no file {shortened(place)}")
    if not all(part.isidentifier() for part in place.split(".")):
        raise named.error(f": expected a built-in {kind}, FILE.py:NAME or package.module:NAME")
    return named._replace(module=place)


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # the name is too long, or the folder unreadable
        return False


def source_hash(named: FunctionName) -> str | None:
    """Return the SHA-256 of the file of a user's function without importing it. Return None for gradlab's own.

    Raises:
        GradlabError: the module does not exist, or its file cannot be read.
    """
    if named.given is not None:
        return _given[f"given:{named.given}"].source
    if (file := source_file(named)) is None:
        return None
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise named.error(f": {file} cannot be read: {error.strerror}") from None


def source_file(named: FunctionName) -> Path | None:
    """Return the file of a user's function without importing it; None for an object, or for gradlab's own.

    Raises:
        GradlabError: the module does not exist.
    """
    return _file_of_module(named) if named.module else named.file


def load(named: FunctionName) -> Callable[..., object]:
    """Import and return a user's function. Import it again if its file has changed.

    Raises:
        GradlabError: the file cannot be imported, or has no such function.
    """
    if named.given is not None:
        return _given[f"given:{named.given}"].function
    return _loaded(named, source_hash(named))


class _Helper(NamedTuple):
    """A module of the user that the file of a task or mode imported."""

    file: Path
    source: str


_helpers: dict[str, _Helper] = {}  # by the name of the module


def forget_changed_helpers() -> None:
    """Let the next `load` import the user's modules again if the file of one changed that a task's file imported."""
    changed = [name for name, each in _helpers.items() if _sha256(each.file) != each.source]
    if not changed:
        return
    for name in (*_helpers, *_imported):  # all: one may have imported from another
        sys.modules.pop(name, None)
    _helpers.clear()
    _imported.clear()
    _loaded.cache_clear()


def _note_helpers(before: set[str], own: str) -> None:
    """Remember the user's modules that were imported since, apart from the one that was asked for."""
    for name in sys.modules.keys() - before - {own}:
        file = getattr(sys.modules[name], "__file__", None)
        if file and is_users_file(file):
            _helpers[name] = _Helper(Path(file), _sha256(Path(file)))


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:  # it is gone
        return ""


@lru_cache
def _loaded(named: FunctionName, source: str | None) -> Callable[..., object]:
    before = set(sys.modules)
    try:
        module = _import_file(named.file) if named.file else _import_module(cast("str", named.module), source)
    except (Exception, SystemExit) as error:
        where = user_location(error) or str(named.file or named.module)
        what = f"{type(error).__name__}: {shortened(error, 200)}"
        raise named.error(f" cannot be imported\n{where}: {what}") from error
    _note_helpers(before, module.__name__)
    function = getattr(module, named.function, None)
    if function is None:
        is_class = named.kind == "optimizer"
        own = [
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__ and isinstance(value, type) == is_class
        ]
        what = unknown(f"{named.noun} in {named.file or named.module}:", named.function, own)
        raise _ERRORS[named.kind](what)
    if not callable(function):
        raise named.error(f": {named.function} is {kind_of(function)}, not a {named.noun}")
    return cast("Callable[..., object]", function)


_imported: dict[str, str | None] = {}  # users' modules, with the SHA-256 of their source


def _file_of_module(named: FunctionName) -> Path | None:
    module = cast("str", named.module)
    _add_to_path(Path.cwd())
    try:
        spec = importlib.util.find_spec(module)
    except Exception as error:  # find_spec runs the parent packages
        raise named.error(f": {type(error).__name__}: {shortened(error, 200)}") from None
    if spec is None:
        raise named.error(f": no module {module} in the current folder or installed")
    return Path(spec.origin) if spec.origin and Path(spec.origin).is_file() else None


def _import_file(file: Path) -> ModuleType:
    name = file.stem
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) != str(file):
        name = f"{name}@{file.parent}"  # another module has that name
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look up modules here
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
    """Add `folder` to the path for good: a task may import its neighbours when it is called."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
