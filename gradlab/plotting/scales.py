"""Scales for losses, on an axis or as colours, and for the values of a sweep's axis."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

DECADES = 2.0  # losses over at least this many decades have a logarithmic scale
COLOUR_DECADES = 1.0  # the same for losses as colours, where small differences are harder to see
DEPTH = 1e12  # a logarithmic scale ends at the highest loss / DEPTH
TINY = 1e-200  # losses below it have a logarithmic scale, since matplotlib has no linear one for them
FEW_VALUES = 5  # up to here every value of an axis has a tick


class LossScale(NamedTuple):
    """The lowest and highest loss on an axis or among colours."""

    low: float
    high: float
    log: bool

    @classmethod
    def of(cls, losses: Sequence[float], high: float, decades: float = DECADES) -> LossScale:
        """Return the scale from the lowest of these finite losses to `high`, logarithmic from `decades` on."""
        low, positive = min(losses), [loss for loss in losses if loss > 0]
        if low >= 0 and positive and (high / min(positive) >= 10**decades or high < TINY):
            return cls.of_log(positive, high)
        return cls(low, high, log=False)

    @classmethod
    def of_log(cls, positive: Sequence[float], high: float) -> LossScale:
        """Return the logarithmic scale from the lowest of these losses above 0 to `high`, or to their highest."""
        high = max(high, min(positive))
        return cls(max(min(positive), high / DEPTH), high, log=True)

    def limits(self) -> tuple[float, float]:
        """Return the bottom and top of an axis: the scale plus a margin."""
        if self.log:
            return self.low / 1.5, self.high * 1.5
        margin = 0.06 * (self.high - self.low) or 0.5 * abs(self.high) or 0.5
        return (0.0 if 0 <= self.low < 0.5 * self.high else self.low - margin), self.high + margin


def is_log(values: Sequence[float]) -> bool:
    """Return whether values are spaced by factors, not by differences; for two values, whether they are far apart."""
    if min(values) <= 0:
        return False
    if len(values) < 3:
        return max(values) >= 20 * min(values)

    def unevenness(places: Sequence[float]) -> float:
        gaps = [after - before for before, after in pairwise(places)]
        return max(gaps) / min(gaps)

    return unevenness([math.log(each) for each in values]) < unevenness(values)


def cell_borders(values: Sequence[float]) -> list[float]:
    """Return the borders of cells around these n values: n + 1 places, halfway between them on the axis's scale."""
    log = is_log(values)
    places = [math.log(each) for each in values] if log else list(values)
    half = [(before + after) / 2 for before, after in pairwise(places)]
    borders = [2 * places[0] - half[0], *half, 2 * places[-1] - half[-1]]
    return [math.exp(each) for each in borders] if log else borders


def set_value_axis(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Set the scale of axis x or y; for few values, or within two powers of ten, put the ticks at values."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    log = is_log(values)
    (axes.set_xscale if which == "x" else axes.set_yscale)("log" if log else "linear")
    axis.set_minor_formatter(NullFormatter())
    if len(values) <= FEW_VALUES or (log and values[-1] < 100 * values[0]):
        axis.set_major_locator(FixedLocator(_tick_values(values)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def _tick_values(values: Sequence[float]) -> list[float]:
    """Return some of the values, evenly spaced, including the last one if a suitable step exists.

    >>> _tick_values(range(4)), _tick_values(range(33)), _tick_values(range(12))
    ([0, 1, 2, 3], [0, 8, 16, 24, 32], [0, 3, 6, 9])
    """
    least = -(-len(values) // FEW_VALUES)
    steps = (step for step in range(least, 2 * least + 1) if (len(values) - 1) % step == 0)
    return list(values[:: next(steps, least)])
