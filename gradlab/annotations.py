"""Annotations of a function's arguments, and whether a value fits one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import signature
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from gradlab.errors import GradlabError, shortened

if TYPE_CHECKING:
    from inspect import Parameter

P = ParamSpec("P")
R = TypeVar("R")


class Kind(NamedTuple):
    """A type in an annotation: its words in a message, and the values that have it."""

    words: str
    types: tuple[type, ...]
    but: tuple[type, ...] = ()

    def fits(self, value: object) -> bool:
        """Return whether a value has this type."""
        return isinstance(value, self.types) and not isinstance(value, self.but)


KINDS = {
    "bool": Kind("true or false", (bool,)),
    "int": Kind("an integer", (int, Integral), (bool,)),  # Integral and Real: NumPy's too
    "float": Kind("a number", (int, float, Real), (bool,)),
    "str": Kind("a string", (str,)),
    "PathLike": Kind("a path", (os.PathLike,)),
    "Sequence": Kind("a list", (Iterable,), (str, bytes, Mapping)),  # also tuples, ranges, sets and arrays
    "Mapping": Kind("a dict", (Mapping,)),
    "None": Kind("", (type(None),)),
}


def misfit(annotation: str, value: object, least: float | None = None) -> str:
    """Return what a value must be, and what it is, for a message; "" if it fits the annotation.

    Args:
        annotation: an annotation as in the source, such as `int | None`. A name that is not in `KINDS` fits any value.
        value: the value.
        least: the smallest number that is allowed.

    >>> misfit("int | None", "3"), misfit("int", 0, least=1), misfit("int | None", None)
    ("an integer, got '3'", 'at least 1, got 0', '')
    """
    plain = annotation
    while plain != (plain := re.sub(r"\[[^\[\]]*\]", "", plain)):
        continue
    names = [part.strip().rpartition(".")[2] for part in plain.split("|")]
    if all(name in KINDS for name in names) and not any(KINDS[name].fits(value) for name in names):
        words = " or ".join(KINDS[name].words for name in names if name != "None")
        return f"{words}, got {shortened(repr(value))}"
    if least is not None and KINDS["float"].fits(value) and not value >= least:  # type: ignore[operator]  # a number
        return f"at least {least}, got {shortened(value)}"
    return ""


def checked(error: type[GradlabError], **least: float) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that checks the arguments of each call against their annotations.

    Args:
        error: the error that a call with a wrong argument raises.
        least: the smallest allowed numbers, by argument.
    """

    def with_checks(function: Callable[P, R]) -> Callable[P, R]:
        known = signature(function)

        @wraps(function)
        def call(*args: P.args, **more: P.kwargs) -> R:
            for name, value in known.bind(*args, **more).arguments.items():
                if wrong := _wrong(known.parameters[name], value, least.get(name)):
                    raise error(f"{name} must be {wrong}")
            return function(*args, **more)

        return call

    return with_checks


def _wrong(parameter: Parameter, value: Any, least: float | None) -> str:
    is_one = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    is_known = is_one and isinstance(parameter.annotation, str)
    return misfit(parameter.annotation, value, least) if is_known else ""
