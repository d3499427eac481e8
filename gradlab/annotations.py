"""Annotations of a function's arguments, and whether a value fits one."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, wraps
from inspect import signature
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from gradlab.errors import GradlabError, shortened
from gradlab.wording import either, words_of_python

if TYPE_CHECKING:
    from collections.abc import Iterator
    from inspect import Parameter

P = ParamSpec("P")
R = TypeVar("R")


class Kind(NamedTuple):
    """A type in an annotation: its words in a message, the values that have it, and the words for several."""

    words: str
    types: tuple[type, ...]
    but: tuple[type, ...] = ()
    plural: str = ""

    def fits(self, value: object) -> bool:
        """Return whether a value has this type."""
        return isinstance(value, self.types) and not isinstance(value, self.but)


KINDS = {
    "bool": Kind("true or false", (bool,), (), "true and false"),
    "int": Kind("an integer", (int, Integral), (bool,), "integers"),  # Integral and Real: NumPy's too
    "float": Kind("a number", (int, float, Real), (bool,), "numbers"),
    "str": Kind("a string", (str,), (), "strings"),
    "PathLike": Kind("a path", (os.PathLike,)),
    "Sequence": Kind("a list", (Iterable,), (str, bytes, Mapping)),  # also tuples, ranges, sets and arrays
    "Mapping": Kind("a dict", (Mapping,)),
    "None": Kind("", (type(None),)),
}
KINDS |= dict.fromkeys(("Iterable", "list", "List", "tuple", "Tuple"), KINDS["Sequence"])
_TUPLES = ("tuple", "Tuple")


def misfit(annotation: str, value: object, least: float | None = None) -> str:
    """Return what a value must be, and what it is, for a message; "" if it fits the annotation.

    Args:
        annotation: an annotation as in the source, such as `int | None`. A name that is not in `KINDS` fits any value.
        value: the value.
        least: the smallest number that is allowed.

    >>> misfit("int | None", "3"), misfit("int", 0, least=1), misfit("int | None", None)
    ("an integer, got '3'", 'at least 1, got 0', '')
    """
    if wanted := wanted_kind(annotation, value):
        got = either(repr(value).lower(), repr(value)) if isinstance(value, bool) else repr(value)
        return f"{wanted}, got {shortened(got)}"
    if least is not None and KINDS["float"].fits(value) and not value >= least:  # type: ignore[operator]  # a number
        return f"at least {least}, got {shortened(value)}"
    return ""


def wanted_kind(annotation: str, value: object) -> str:
    """Return what a value must be, for a message; "" if it fits the annotation.

    >>> wanted_kind("float | Literal['auto']", "x"), wanted_kind("tuple[float, ...]", [1, 2, 3])
    ('a number or auto', '')
    """
    branches = _branches(annotation)
    return "" if any(_fits(each, value) for each in branches) else _words(branches)


@lru_cache(maxsize=256)
def _branches(annotation: str) -> list[ast.expr]:
    """Return the alternatives of an annotation, without tensors, which no option can be; none if it has no meaning."""
    try:
        tree = ast.parse(annotation.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return []
    found = list(_alternatives(tree))
    return [each for each in found if _name(each) != "Tensor"] or found


def _alternatives(tree: ast.expr) -> Iterator[ast.expr]:
    """Yield the branches of `A | B`, Union[A, B] and Optional[A], also within others."""
    if isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitOr):
        inner = [tree.left, tree.right]
    elif isinstance(tree, ast.Subscript) and _name(tree) in ("Union", "Optional"):
        inner = _arguments(tree)
        if _name(tree) == "Optional":
            inner = [*inner, ast.Constant(None)]
    elif isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        inner = _branches(tree.value)
    else:
        yield tree
        return
    for each in inner:
        yield from _alternatives(each)


def _name(tree: ast.expr) -> str:
    """Return the last word of a type: Sequence of `abc.Sequence[int]`."""
    return ast.unparse(tree.value if isinstance(tree, ast.Subscript) else tree).rpartition(".")[2]


def _arguments(tree: ast.expr) -> list[ast.expr]:
    """Return what is in the brackets of a type."""
    if not isinstance(tree, ast.Subscript):
        return []
    return tree.slice.elts if isinstance(tree.slice, ast.Tuple) else [tree.slice]


def _fits(branch: ast.expr, value: object) -> bool:
    name, inner = _name(branch), _arguments(branch)
    if name == "Literal":
        choices = _choices(branch)
        return not choices or any(type(each) is type(value) and each == value for each in choices)
    if name not in KINDS:
        return True
    if not KINDS[name].fits(value):
        return False
    if KINDS[name] != KINDS["Sequence"] or not inner or not isinstance(value, list | tuple):
        return True
    kinds = [ast.unparse(each) for each in inner]
    if name in _TUPLES and kinds[-1] != "...":
        return len(value) == len(kinds) and not any(map(wanted_kind, kinds, value))
    return not any(wanted_kind(kinds[0], each) for each in value)


def _choices(literal: ast.expr) -> list[object]:
    """Return the values of Literal[…]; none if one of them is a name."""
    try:
        return [ast.literal_eval(each) for each in _arguments(literal)]
    except ValueError:
        return []


def _words(branches: Iterable[ast.expr]) -> str:
    """Return what a value of these alternatives is, such as "a number or a list of numbers"."""
    found = dict.fromkeys(words for each in branches if (words := _words_of(each)))
    if KINDS["float"].words in found:
        found.pop(KINDS["int"].words, None)  # an integer is a number
    return " or ".join(found)


def _words_of(branch: ast.expr) -> str:
    name, inner = _name(branch), _arguments(branch)
    if name == "Literal":
        return " or ".join(str(each) for each in _choices(branch) if each is not None)
    words = KINDS[name].words
    if not inner or KINDS[name] != KINDS["Sequence"]:
        return words
    kinds = [_words(_branches(ast.unparse(each))) if _is_known(each) else "" for each in inner]
    fixed = name in _TUPLES and ast.unparse(inner[-1]) != "..."
    plurals = {each.words: each.plural for each in KINDS.values() if each.plural}
    if fixed and len(set(kinds)) > 1:
        return f"{words} of {len(kinds)} values: {', '.join(kind or 'any value' for kind in kinds)}"
    many = plurals.get(kinds[0], "values" if fixed else "")
    return f"{words} of {f'{len(kinds)} ' if fixed else ''}{many}" if many else words


def _is_known(tree: ast.expr) -> bool:
    """Return whether all alternatives of an annotation are in `KINDS`."""
    return all(_name(each) in KINDS for each in _branches(ast.unparse(tree)))


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
    with words_of_python():
        return misfit(_outer(parameter.annotation), value, least) if is_known else ""


def _outer(annotation: str) -> str:
    """Return an annotation without the types of elements and without tuples, which the function itself checks."""
    names = map(_name, _branches(annotation))
    return " | ".join("object" if name in _TUPLES else name for name in names)
