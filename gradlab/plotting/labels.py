"""Names at the ends of the curves, moved apart where they would touch."""

from __future__ import annotations

import math
import textwrap
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING

from gradlab.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradlab import curves
    from gradlab.plotting.lines import Line

LABEL = 10.0  # points
LONGEST, MOST_LINES = 60, 6  # characters of a line of a name, and its lines; what is beyond leaves no room for curves


def name_lines(figure: Figure, axes: Axes, lines: Sequence[Line], axis: curves.Axis) -> None:
    """Write each name at the end of its curve, to the right of the axes, moved apart where they would touch."""
    names = [_label(line, axis) for line in lines]
    margin = min(max(width_of(name, LABEL, "bold") for name in names) / 72 + 0.4, 0.45 * figure.get_figwidth())
    figure.subplots_adjust(right=1 - margin / figure.get_figwidth())
    left, right = min(line.band.x[0] for line in lines), max(line.band.x[-1] for line in lines)
    spare = 0.02 * (right - left) or 0.5
    axes.set_xlim(left - spare, right + spare / 2)
    height = axes.get_position().height * figure.get_figheight() * 72  # points
    to_axes = axes.transData + axes.transAxes.inverted()
    low, high = axes.get_ylim()
    ends = []
    for line in lines:
        whole = line.finite == len(line.band.middle)
        x, y = (line.band.x[-1], line.band.middle[-1]) if whole else leaves_at(axes, line)
        right_at, up_at = to_axes.transform((x, min(max(y, low), high)))
        ends.append((float(right_at), float(up_at)))
    spaces = [LABEL * 1.35 * (1 + name.count("\n")) for name in names]
    places = _apart([end[1] * height for end in ends], spaces, height)
    beside = 1 + 14 / 72 / (axes.get_position().width * figure.get_figwidth())
    for line, name, end, place in zip(lines, names, ends, places, strict=True):
        moved = abs(place - end[1] * height) > 3 or end[0] < 0.97
        thread = {"arrowstyle": "-", "color": line.colour, "linewidth": 0.7, "alpha": 0.7, "shrinkA": 1, "shrinkB": 3}
        thread["relpos"] = (0, 0.5)
        axes.annotate(
            name, end, (beside, place / height), xycoords="axes fraction", textcoords="axes fraction", va="center",
            color=line.colour, fontsize=LABEL, fontweight="bold", annotation_clip=False,
            arrowprops=thread if moved else None, parse_math=False,
        )  # fmt: skip


def leaves_at(axes: Axes, line: Line) -> tuple[float, float]:
    """Return where the mark of a curve that leaves the finite stands: its last finite point, or the top above it."""
    top = axes.get_ylim()[1]
    if not line.finite:
        return line.band.x[0], top
    return line.band.x[line.finite - 1], min(line.band.middle[line.finite - 1], top)


def _label(line: Line, axis: curves.Axis) -> str:
    """Return the name of the curve, on several lines where it is long, and where it leaves the finite."""
    name = printable(line.name).replace(",every", ", every")
    parts = textwrap.wrap(name, 26, break_long_words=False, max_lines=MOST_LINES, placeholder=" …")
    parts = [part if len(part) <= LONGEST else part[: LONGEST - 1] + "…" for part in parts]
    if line.finite < len(line.band.middle):
        what = "beyond 1e100" if math.isfinite(line.band.middle[line.finite]) else "not finite"
        parts.append(f"× {what} from {axis} {line.band.x[line.finite]:g}")
    return "\n".join(parts)


def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a text in points, the unit of its size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(weight=weight)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # a name in another script
        parts = text.replace("$", r"\$").split("\n")  # names are no formulas
        paths = [TextPath((0, 0), part, size=size, prop=font) for part in parts]
    return max(float(path.get_extents().width) for path in paths)


def _apart(wanted: Sequence[float], heights: Sequence[float], space: float) -> list[float]:
    """Return places near the wanted ones, none closer than its height to the next, within `space` where they fit."""
    order = sorted(range(len(wanted)), key=lambda nth: wanted[nth])
    places = list(wanted)
    for _ in range(500):
        moved = False
        for below, above in pairwise(order):
            overlap = (heights[below] + heights[above]) / 2 - (places[above] - places[below])
            if overlap > 0.01:
                places[below] -= overlap / 2
                places[above] += overlap / 2
                moved = True
        for nth in order:
            margin = max(0.0, heights[nth] / 2 - LABEL * 0.6)  # a second line must not reach title or axis
            places[nth] = min(max(places[nth], margin), space - margin)
        if not moved:
            break
    return places
