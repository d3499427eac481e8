"""Inequalities in expectations, such as "> 0.9"."""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TEXT = re.compile(r"\s*([<>]=?)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*")


class Inequality(NamedTuple):
    """An inequality that a number fulfils or not."""

    sign: str
    bound: float

    def __call__(self, value: float) -> bool:
        """Return whether it holds for the value; NaN fulfils none."""
        return _SIGNS[self.sign](value, self.bound)


def inequality_of(text: object) -> Inequality | None:
    """Return the inequality in a text, or None if it has none.

    >>> inequality_of("> 0.9")
    Inequality(sign='>', bound=0.9)
    """
    found = _TEXT.fullmatch(text) if isinstance(text, str) else None
    return Inequality(found[1], float(found[2])) if found else None
