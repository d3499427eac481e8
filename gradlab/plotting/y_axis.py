"""The y axis of a figure of runs: the words and the scale that suit a quantity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from gradlab.analysis.quantities import LOSS
from gradlab.errors import PlotError, unknown
from gradlab.plotting.scales import LossScale
from gradlab.rows import HUGE, Geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradlab.analysis.curves import Axis
    from gradlab.plotting.lines import Line

SCALES = ("auto", "log", "linear")
CEILING = 1e6  # times the highest first value: curves above it leave the figure if one stops being finite
DIVERGING = 1e3  # the same while other curves stay below
ABOVE_LOG, ABOVE_LINEAR = 10.0, 1.6  # times the highest value of these others: there diverging ones leave the figure
NEAR = 10.0  # times the range of the medians: bands farther away leave the figure
WORDS = {
    LOSS: "training loss",
    "training_set_loss": "loss on the training set",
    "fresh_norm": "norm of fresh gradient",
    "gradient_norm": "norm of .grad",
    "cosine": "cosine to fresh gradient",
    "update_norm": "norm of update",
}


class YLimits(NamedTuple):
    """The bottom and top of the y axis, and whether it is logarithmic."""

    bottom: float
    top: float
    log: bool


def y_label(quantity: str, axis: Axis, lines: Sequence[Line]) -> str:
    """Return the label of the y axis; over epochs, values are means if an epoch has several, as it has of losses."""
    words = WORDS.get(quantity, quantity.replace("_", " "))
    several = any(len({row.epoch for row in rows}) < len(rows) for line in lines for _, rows in line.runs)
    return f"mean {words} per epoch" if axis == "epoch" and (several or quantity == LOSS) else words


def y_limits(
    quantity: str,
    lines: Sequence[Line],
    yscale: str = "auto",
    ylim: tuple[float | None, float | None] = (None, None),
) -> YLimits:
    """Return the limits that show the curves; one that diverges leaves the figure if others do not.

    Unless `yscale` is log, a metric between 0 and 1 has a linear axis, and a cosine has all of -1 to 1.

    Args:
        quantity: the name of the quantity.
        lines: the curves.
        yscale: log, linear or auto.
        ylim: the bottom and the top; None for what suits.

    Raises:
        PlotError: the scale is unknown, or a log scale has nothing above 0 to show.
    """
    if yscale not in SCALES:
        raise PlotError(unknown("scale", yscale, SCALES))
    if yscale == "auto" and (quantity == "cosine" or any(end is not None and end <= 0 for end in ylim)):
        yscale = "linear"
    scale = _scale(quantity, lines, yscale)
    bottom, top = scale.limits()
    if not any(line.finite for line in lines):
        bottom, top = (0.1, 1.0) if scale.log else (0.0, 1.0)
    if quantity == "cosine" and not scale.log:
        bottom, top = -1.05, 1.05
    bottom, top = (end if given is None else given for end, given in zip((bottom, top), ylim, strict=True))
    if scale.log and bottom <= 0:
        raise PlotError(f"a log scale begins above 0, not at {bottom:g}. Use --yscale linear, or another --ylim.")
    if not bottom < top:
        raise PlotError(f"--ylim: {bottom:g} is not below {top:g}, so no curve would be visible.")
    return YLimits(bottom, top, scale.log)


def _scale(quantity: str, lines: Sequence[Line], yscale: str) -> LossScale:
    """Return the scale of the values to show, on which every curve begins."""
    values, high = _shown_values(lines)
    if not values:
        values, high = [1.0], 1.0
    scale = LossScale.of(values, high)
    is_metric = quantity not in Geometry._fields and not quantity.endswith(LOSS)
    if is_metric and 0 <= min(values) <= max(values) <= 1:
        scale = LossScale(min(values), max(values), log=False)
    scale = _of_kind(scale, values, yscale)
    starts = [line.band.median[0] for line in lines if line.finite and line.band.median[0] > 0]
    return scale._replace(low=min(scale.low, *starts)) if scale.log and starts else scale


def _of_kind(scale: LossScale, values: Sequence[float], yscale: str) -> LossScale:
    """Return the scale, made logarithmic or linear if `yscale` says so."""
    if yscale == "auto" or scale.log == (yscale == "log"):
        return scale
    if yscale == "linear":
        return LossScale(min(values), scale.high, log=False)
    positive = [value for value in values if value > 0]
    if not positive:
        raise PlotError("a log scale shows values above 0, and these curves have none. Use --yscale linear.")
    return LossScale.of_log(positive, scale.high)


def _shown_values(lines: Sequence[Line]) -> tuple[list[float], float]:
    """Return the finite values to show, and the highest that the axis must reach."""
    start = max((abs(line.band.median[0]) for line in lines if line.finite), default=1.0) or 1.0
    leaving = [line for line in lines if _diverges(line, start)]
    staying = [line for line in lines if line not in leaving]
    if not staying or not leaving:
        values = [y for line in lines for y in _values(line) if abs(y) < HUGE]
        ends = any(line.finite < len(line.band.median) for line in lines)
        return values, min(max(values, default=1.0), CEILING * start if ends else HUGE)
    medians = [abs(y) for line in staying for y in line.band.median]
    values = [y for line in staying for y in _values(line) if abs(y) <= ABOVE_LOG * max(medians)]
    log = LossScale.of(values, max(values)).log
    return values, max(values) * (ABOVE_LOG if log else ABOVE_LINEAR)


def _values(line: Line) -> list[float]:
    """Return the medians of a curve, and its band as far as it is near them: one low loss does not set the axis."""
    medians = [y for y in line.band.median if abs(y) < HUGE]
    low, high = min(medians, default=0.0), max(medians, default=0.0)
    if low > 0:
        low, high = low / NEAR, high * NEAR
        return [*medians, *(y for y in (*line.band.low, *line.band.high) if low <= y <= high)]
    return [*medians, *line.band.low, *line.band.high]


def _diverges(line: Line, start: float) -> bool:
    """Return whether a curve stops being finite or exceeds all first values by far."""
    return line.finite < len(line.band.median) or max(map(abs, line.band.median), default=math.inf) > DIVERGING * start
