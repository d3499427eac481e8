"""Labels at the ends of the curves, moved apart if they would overlap."""

from __future__ import annotations

import math
import textwrap
import warnings
from itertools import accumulate, pairwise
from statistics import fmean
from typing import TYPE_CHECKING

from gradlab.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradlab.analysis import curves
    from gradlab.plotting.lines import Line

LABEL_SIZE = 10.0  # points
HINTING = 1.04  # text on a screen is up to this much wider than its outlines
MAX_CHARACTERS, MAX_LINES = 60, 6  # per line and per label; more leaves no room for curves


def label_lines(figure: Figure, axes: Axes, lines: Sequence[Line], axis: curves.Axis) -> None:
    """Write every label at the end of its curve, right of the axes, moved apart if they would overlap."""
    labels = [label_of(line, axis) for line in lines]
    margin = min(max(width_of(label, LABEL_SIZE, "bold") for label in labels) / 72 + 0.4, 0.45 * figure.get_figwidth())
    figure.subplots_adjust(right=1 - margin / figure.get_figwidth())
    left, right = min(line.band.x[0] for line in lines), max(line.band.x[-1] for line in lines)
    spare = 0.02 * (right - left) or 0.5
    axes.set_xlim(left - spare, right + spare / 2)
    height = axes.get_position().height * figure.get_figheight() * 72  # points
    to_axes = axes.transData + axes.transAxes.inverted()
    low, high = axes.get_ylim()
    ends = []
    for line in lines:
        whole = line.finite == len(line.band.median)
        x, y = (line.band.x[-1], line.band.median[-1]) if whole else overflow_mark(axes, line)
        right_at, up_at = to_axes.transform((x, min(max(y, low), high)))
        ends.append((float(right_at), float(up_at)))
    spaces = [LABEL_SIZE * 1.35 * (1 + label.count("\n")) for label in labels]
    # Labels may be slightly closer than their spaces; if that is not enough, they shrink.
    small = min(1.0, max(0.4, 1.05 * (height + 1.2 * LABEL_SIZE) / sum(spaces)))
    spaces = [small * space for space in spaces]
    places = _spread([end[1] * height for end in ends], spaces, height)
    beside = 1 + 14 / 72 / (axes.get_position().width * figure.get_figwidth())
    for line, label, end, place in zip(lines, labels, ends, places, strict=True):
        moved = abs(place - end[1] * height) > 3 or end[0] < 0.97
        thread = {"arrowstyle": "-", "color": line.colour, "linewidth": 0.7, "alpha": 0.7, "shrinkA": 1, "shrinkB": 3}
        thread["relpos"] = (0, 0.5)
        axes.annotate(
            label, end, (beside, place / height), xycoords="axes fraction", textcoords="axes fraction", va="center",
            color=line.colour, fontsize=small * LABEL_SIZE, fontweight="bold", annotation_clip=False,
            arrowprops=thread if moved else None, parse_math=False,
        )  # fmt: skip


def overflow_mark(axes: Axes, line: Line) -> tuple[float, float]:
    """Return the position of the mark on a curve that stops being finite: its last finite point, or the top."""
    top = axes.get_ylim()[1]
    if not line.finite:
        return line.band.x[0], top
    return line.band.x[line.finite - 1], min(line.band.median[line.finite - 1], top)


def label_of(line: Line, axis: curves.Axis) -> str:
    """Return the label of the curve, wrapped if long, with the point where it overflows."""
    label = printable(line.name).replace(",every", ", every")
    parts = textwrap.wrap(label, 26, break_long_words=False, max_lines=MAX_LINES, placeholder=" …")
    parts = [part if len(part) <= MAX_CHARACTERS else part[: MAX_CHARACTERS - 1] + "…" for part in parts]
    if line.finite < len(line.band.median):
        what = "beyond 1e100" if math.isfinite(line.band.median[line.finite]) else "not finite"
        parts.append(f"× {what} from {axis} {line.band.x[line.finite]:g}")
    return "\n".join(parts)


def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a text in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(weight=weight)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # a label in another script
        parts = text.replace("$", r"\$").split("\n")  # labels are not formulas
        paths = [TextPath((0, 0), part, size=size, prop=font) for part in parts if part.strip()]
    return HINTING * max((float(path.get_extents().width) for path in paths), default=0.0)


def _spread(wanted: Sequence[float], heights: Sequence[float], space: float) -> list[float]:
    """Return the places nearest to the wanted ones, in the same order, without overlap.

    All places lie within `space`; if they do not fit, all overlap equally. After subtracting the heights below each
    label, this is a least-squares fit of a nondecreasing sequence (pool adjacent violators, Ayer et al. 1955).
    """
    order = sorted(range(len(wanted)), key=lambda nth: wanted[nth])
    # The second line of a label must not reach the title or the axis.
    margins = [max(0.0, heights[nth] / 2 - LABEL_SIZE * 0.6) for nth in (order[0], order[-1])]
    below = [0.0, *accumulate((heights[one] + heights[next_]) / 2 for one, next_ in pairwise(order))]
    room = max(0.0, space - sum(margins))
    fit = min(1.0, room / below[-1]) if below[-1] else 1.0
    below = [fit * each for each in below]
    pools: list[list[float]] = []
    for nth, each in zip(order, below, strict=True):
        pools.append([wanted[nth] - each])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    lowest, highest = margins[0], margins[0] + room - below[-1]
    fitted = [min(max(fmean(pool), lowest), highest) for pool in pools for _ in pool]
    places = list(wanted)
    for nth, each, at in zip(order, below, fitted, strict=True):
        places[nth] = at + each
    return places
