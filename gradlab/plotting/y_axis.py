"""The y axis of a figure of runs: the words and the scale that suit a quantity."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from gradlab.analysis.quantities import LOSS
from gradlab.plotting.labels import LABEL_SIZE, width_of
from gradlab.plotting.scales import LossScale
from gradlab.rows import HUGE, Geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradlab.analysis.curves import Axis
    from gradlab.plotting.lines import Line

CEILING = 1e6  # times the highest first value: curves above it leave the figure
WORDS = {
    LOSS: "training loss",
    "training_set_loss": "loss on the training set",
    "fresh_norm": "norm of fresh gradient",
    "gradient_norm": "norm of .grad",
    "cosine": "cosine to fresh gradient",
    "update_norm": "norm of update",
}


def y_label(quantity: str, axis: Axis, lines: Sequence[Line]) -> str:
    """Return the label of the y axis; over epochs, values are means if an epoch has several, as it has of losses."""
    words = WORDS.get(quantity, quantity.replace("_", " "))
    several = any(len({row.epoch for row in rows}) < len(rows) for line in lines for _, rows in line.runs)
    return f"mean {words} per epoch" if axis == "epoch" and (several or quantity == LOSS) else words


def fitted(label: str, room: float) -> tuple[str, float]:
    """Return the label and its size in points, so that it is at most `room` points long; in two lines if necessary."""
    if width_of(label, LABEL_SIZE) > room:
        label = textwrap.fill(label, len(label) // 2 + 4)
    return label, min(LABEL_SIZE, LABEL_SIZE * room / width_of(label, LABEL_SIZE))


def y_limits(quantity: str, lines: Sequence[Line]) -> tuple[float, float, bool]:
    """Return the bottom and top of the y axis, and whether it is logarithmic.

    A metric between 0 and 1, such as an accuracy, always has a linear axis. A cosine has all of -1 to 1.
    """
    if quantity == "cosine":
        return -1.05, 1.05, False
    finite = [y for line in lines for y in (*line.band.low, *line.band.median, *line.band.high) if abs(y) < HUGE]
    if not finite:
        return 0.0, 1.0, False
    start = max((abs(line.band.median[0]) for line in lines if line.finite), default=1.0) or 1.0
    scale = LossScale.of(finite, min(max(finite), CEILING * start))
    is_metric = quantity not in Geometry._fields and not quantity.endswith(LOSS)
    if is_metric and 0 <= min(finite) <= max(finite) <= 1:
        scale = LossScale(min(finite), max(finite), log=False)
    return *scale.limits(), scale.log
