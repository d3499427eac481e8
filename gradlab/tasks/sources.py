"""The source of a function object: its text, and what it reads of the user's code, as one hash.

It covers functions, classes and plain values that the function finds in its closure and among its globals, and what
these functions read. It does not cover attributes of objects, files, or names that are looked up in other ways.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from gradlab.errors import is_users_file
from gradlab.tasks.hashing import hash_of

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_ITEMS = 1000  # of a container; of a longer one, also its length
PLAIN = (bool, int, float, complex, str, bytes, type(None))


def hash_of_source(value: object) -> str:
    """Return the SHA-256 of a function, class or object, with what it reads of the user's code."""
    digest = hashlib.sha256()
    seen: dict[int, object] = {}  # keeps the objects, so that no other one gets the same id
    waiting: list[Any] = [value]
    while waiting:  # no recursion, since containers may be nested deeply
        part = waiting.pop()
        digest.update(f"<{type(part).__qualname__}>".encode())
        if isinstance(part, PLAIN):
            digest.update(repr(part).encode(errors="surrogatepass"))
        elif id(part) not in seen:
            seen[id(part)] = part
            waiting += reversed(_known_parts(part))
    return digest.hexdigest()


def _known_parts(value: Any) -> list[Any]:
    """Return the parts of a value, or none if the user's code in its class raises."""
    try:
        return list(_parts(value))
    except Exception:  # of any kind; then only the type counts
        return []


def _parts(value: Any) -> Iterator[Any]:
    """Yield bytes and objects that stand for a value."""
    for kinds, parts in _PARTS:
        if isinstance(value, kinds):
            yield from parts(value)
            return
    if hasattr(value, "__array_interface__") or hasattr(value, "detach"):  # data: NumPy's and torch's
        with suppress(Exception):  # such as a tensor without storage: then only the type counts
            yield hash_of(value)
    elif is_of_user(type(value)):
        yield type(value)
    elif (wrapped := getattr(value, "__wrapped__", None)) is not None:  # such as a function in a functools.cache
        yield wrapped


def _parts_of_function(function: FunctionType) -> Iterator[Any]:
    function = decorated(function)
    if is_of_user(function):
        yield _text_of(function, function.__code__)
        yield from (function.__defaults__, function.__kwdefaults__)
        yield from (part for variable in variables_of(function) for part in variable)
    else:
        yield f"{function.__module__}.{function.__qualname__}"
        closure = (each for _, each in _closure_of(function))  # of a decorator that does not name what it wraps
        yield from (each for each in closure if isinstance(each, FunctionType | MethodType | type))
    if (wrapped := getattr(function, "__wrapped__", None)) is not None:
        yield wrapped


def decorated(function: FunctionType) -> FunctionType:
    """Return the user's function within wrappers of libraries, such as torch.no_grad(); others as they are.

    So a class has the same source before and after torch wraps the `step` of an optimizer.
    """
    inner = function
    while not is_of_user(inner) and isinstance(wrapped := getattr(inner, "__wrapped__", None), FunctionType):
        inner = wrapped
    return inner if is_of_user(inner) else function


def variables_of(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the globals and closure variables that a function reads, each with its name."""
    for name in _names_in(function.__code__):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    yield from _closure_of(function)


def _closure_of(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # a variable that is not assigned yet
            yield name, cell.cell_contents


def _parts_of_class(kind: type) -> Iterator[Any]:
    if not is_of_user(kind):
        yield f"{kind.__module__}.{kind.__qualname__}"
        return
    yield from kind.__bases__
    for name, each in sorted(vars(kind).items()):
        if isinstance(each, property):
            yield from (name, each.fget, each.fset)
        elif isinstance(each, FunctionType | classmethod | staticmethod) or hasattr(each, "__wrapped__"):
            yield from (name, getattr(each, "__func__", each))
        elif not (name.startswith("__") or hasattr(type(each), "__get__")):
            yield from (name, each)


def _parts_of_module(module: ModuleType) -> Iterator[Any]:
    file = getattr(module, "__file__", None)
    yield module.__name__
    if file and _is_own_file(file):
        with suppress(OSError):
            yield Path(file).read_bytes()


def _text_of(function: FunctionType, code: CodeType) -> bytes:
    """Return the text of a function; its compiled code if the text is unknown."""
    try:
        return inspect.getsource(function).encode(errors="surrogatepass")
    except (OSError, TypeError):
        return b"".join(_compiled(code))


def _compiled(code: CodeType) -> Iterator[bytes]:
    yield from (code.co_code, " ".join((*code.co_names, *code.co_varnames)).encode())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _compiled(constant)
        else:
            yield repr(constant).encode(errors="surrogatepass")


def _names_in(code: CodeType) -> list[str]:
    """Return the names that a function and the functions within it look up, sorted."""
    inner = [name for each in code.co_consts if isinstance(each, CodeType) for name in _names_in(each)]
    own = (each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    return sorted({*own, *inner})


def is_of_user(value: Any) -> bool:
    """Return whether a function or class is the user's: of a notebook, a script or a module that is not installed."""
    code = getattr(value, "__code__", None)
    if code is not None:
        return _is_own_file(code.co_filename)
    module = getattr(value, "__module__", None)
    if module == "__main__":
        return True
    methods = (decorated(each).__code__ for each in vars(value).values() if isinstance(each, FunctionType))
    return any(_is_own_file(each.co_filename) for each in methods)


def _is_own_file(file: str) -> bool:
    """Return whether code of this file name is the user's: of a file, a cell, a prompt or a text."""
    return not file.startswith("<frozen") if file.startswith("<") else is_users_file(file)


_PARTS: list[tuple[type | tuple[type, ...], Callable[[Any], Any]]] = [
    (functools.partial, lambda value: (value.func, value.args, value.keywords)),
    (MethodType, lambda value: (value.__func__, value.__self__)),
    (FunctionType, _parts_of_function),
    (type, _parts_of_class),
    (ModuleType, _parts_of_module),
    (BuiltinFunctionType, lambda value: (value.__qualname__,)),
    (Mapping, lambda value: (len(value), *chain(*islice(value.items(), MOST_ITEMS)))),
    (Sequence, lambda value: (len(value), *islice(value, MOST_ITEMS))),
    (AbstractSet, lambda value: (len(value), *sorted(map(repr, value))[:MOST_ITEMS])),
]
