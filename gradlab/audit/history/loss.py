"""How a loss is scaled, as its graph tells."""

from __future__ import annotations

import math
from typing import NamedTuple


class Loss(NamedTuple):
    """What is known of how a loss is scaled.

    >>> Loss((4.0,), 0.25, "mean").over(4), Loss((4.0, 4.0), 0.0625, "mean").twice(4)
    (True, True)
    """

    divisors: tuple[float, ...] = ()  # from the outermost on, but for one that makes a sum a mean
    factor: float = 1.0  # the product of all constants, of a sum of terms the largest
    base: str = ""  # "mean" or "sum", where it is known what it stands on
    terms: bool = False  # the innermost divisor stands on a sum of terms, and may make a mean of these
    kind: str = ""  # the name of the node that it stands on: losses of other kinds are other losses
    own: bool = True  # a line of the user's own code took the backward pass, and no framework's

    def over(self, number: int) -> bool:
        """Say whether it is divided by that number."""
        return number in self.divisors or math.isclose(self.factor * number, 1, rel_tol=1e-3)

    def twice(self, number: int) -> bool:
        """Say whether it is divided by that number twice, both times as a whole."""
        return self.divisors.count(number) - (self.terms and self.divisors[-1] == number) > 1

    @property
    def undivided(self) -> bool:
        """Whether it is a mean or a sum that nothing divides or multiplies."""
        return self.base in {"mean", "sum"} and not self.divisors and math.isclose(self.factor, 1, rel_tol=1e-3)


UNKNOWN = Loss(base="?")  # of which nothing can be said: several roots, or a gradient given by hand
NOTHING = Loss()  # the end of what was looked at
