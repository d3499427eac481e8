"""The scale of a loss: what divides or multiplies it."""

from __future__ import annotations

import math
from typing import NamedTuple


class Loss(NamedTuple):
    """The scale of a loss, as far as its graph shows it.

    >>> Loss((4.0,), 0.25, "mean").over(4), Loss((4.0, 4.0), 0.0625, "mean").twice(4)
    (True, True)
    """

    divisors: tuple[float, ...] = ()  # outermost first, except one that turns a sum into a mean
    factor: float = 1.0  # the product of all constants; the largest one for a sum of terms
    base: str = ""  # "mean" or "sum", if known
    terms: bool = False  # the innermost divisor applies to a sum of terms, and may average them
    kind: str = ""  # name of the base node; a different one means a different loss
    own: bool = True  # the user's code called backward(), not a framework

    def over(self, number: int) -> bool:
        """Say whether the loss is divided by that number."""
        return number in self.divisors or math.isclose(self.factor * number, 1, rel_tol=1e-3)

    def twice(self, number: int) -> bool:
        """Say whether the whole loss is divided by that number twice."""
        return self.divisors.count(number) - (self.terms and self.divisors[-1] == number) > 1

    @property
    def undivided(self) -> bool:
        """Whether the loss is a mean or a sum without any factor."""
        return self.base in {"mean", "sum"} and not self.divisors and math.isclose(self.factor, 1, rel_tol=1e-3)


UNKNOWN = Loss(base="?")  # the scale cannot be read: several roots, or a gradient argument
NOTHING = Loss()  # where reading the graph ends
