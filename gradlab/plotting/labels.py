"""Labels at the ends of the curves: a piece of the line and its name, moved apart if they would overlap."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from gradlab.errors import printable
from gradlab.plotting.rendering import font_scale
from gradlab.plotting.texts import cut, width_of, wrapped
from gradlab.plotting.views import end_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradlab.plotting.lines import Line
    from gradlab.plotting.views import View

LABEL_SIZE = 10.0  # points
WIDEST = 195.0  # points of a line of a label
LARGEST_SHARE = 0.4  # of the width of a figure, for all labels
MAX_LINES = 6  # of a label; more leave no room for the others
LINE = 1.35  # times the size of the font: the height of a line
READABLE = 0.8  # of their size, to which labels may shrink if the figure can grow
SPACE, SAMPLE, GAP = 10.0, 28.0, 5.0  # points: beside the axes, of the piece of line, and between it and the name


class Labels(NamedTuple):
    """The labels of the curves in lines, the size of their font in points, and their width in inches."""

    texts: list[str]
    size: float
    width: float

    @property
    def spaces(self) -> list[float]:
        """The height of each label in points."""
        return [self.size * LINE * (1 + text.count("\n")) for text in self.texts]

    @property
    def height(self) -> float:
        """The height in inches that all labels need to be readable."""
        return READABLE * sum(self.spaces) / 72


def fit_labels(view: View, wide: float) -> Labels:
    """Return the labels of these curves in a figure `wide` inches wide."""
    scale = font_scale(wide)
    size, beside = LABEL_SIZE * scale, scale * (SPACE + SAMPLE + GAP) + 4
    most = min(WIDEST, LARGEST_SHARE * 72 * wide - beside)
    texts = [label_of(line, view, size, most) for line in view.lines]
    return Labels(texts, size, (beside + max(width_of(text, size, "bold") for text in texts)) / 72)


def label_of(line: Line, view: View, size: float, points: float) -> str:
    """Return the label of a curve in lines of at most `points` points, with how the curve leaves the picture."""
    parts = name_lines(line.name, size, points)
    n, values = line.finite, line.band.median
    if n < len(values):
        what = "beyond 1e100" if math.isfinite(values[n]) else "not finite"
        parts += wrapped(f"× {what} from {view.axis} {line.band.x[n]:,.0f}".split(" "), size, points, weight="bold")
    elif end_of(line, view.limits).leaves:
        parts.append(f"↑ up to {max(values):.2g}")
    return "\n".join(parts)


def name_lines(name: str, size: float, points: float) -> list[str]:
    """Return the name of a curve in lines of at most `points` points."""
    words = printable(name).replace(",every", ", every").split(" ")
    return cut(wrapped(words, size, points, weight="bold"), MAX_LINES)


def write_labels(figure: Figure, axes: Axes, view: View, labels: Labels, *, dashes: bool) -> None:
    """Write every label right of the axes, with a piece of its line, moved apart if they would overlap.

    Args:
        figure: the figure.
        axes: its axes, with their final place and ranges.
        view: what they show.
        labels: the texts.
        dashes: whether the curves have their dashes.
    """
    box = axes.get_position()
    width, height = box.width * figure.get_figwidth() * 72, box.height * figure.get_figheight() * 72  # points
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = [to_axes.transform(end_of(line, view.limits)[:2]) for line in view.lines]
    spaces = labels.spaces
    # Labels may be slightly closer than their spaces; if that is not enough, they shrink.
    small = min(1.0, max(0.4, 1.05 * (height + 1.2 * labels.size) / sum(spaces)))
    size = small * labels.size
    places = _spread([float(up) * height for _, up in ends], [small * space for space in spaces], height, size)
    scale = labels.size / LABEL_SIZE
    begin, end, name_at = (
        1 + scale * points / width for points in (SPACE, SPACE + SAMPLE, SPACE + SAMPLE + GAP)
    )  # fractions of the axes
    for line, text, (right, up), place in zip(view.lines, labels.texts, ends, places, strict=True):
        at = place / height
        if abs(place - up * height) > 3 or right < 0.97:
            _draw_thread(axes, (right, up), (begin, at), line.colour)
        draw_sample(axes, (begin, end), at, line, linewidth=2.0 * size / LABEL_SIZE, dashes=dashes)
        axes.annotate(
            text, (name_at, at), xycoords="axes fraction", va="center", fontsize=size, fontweight="bold",
            color=line.colour, annotation_clip=False, parse_math=False,
        )  # fmt: skip


def draw_sample(
    axes: Axes, x: tuple[float, float], y: float, line: Line, *, linewidth: float = 2.0, dashes: bool = True
) -> None:
    """Draw a piece of the line beside its name, in fractions of the axes."""
    axes.plot(
        x, [y, y], transform=axes.transAxes, color=line.colour, linestyle=line.dash if dashes else "-",
        linewidth=linewidth, clip_on=False, label="_sample", zorder=4,
    )  # fmt: skip


def _draw_thread(axes: Axes, end: tuple[float, float], begin: tuple[float, float], colour: str) -> None:
    """Draw a thin line from the end of a curve to its label, in fractions of the axes."""
    thread = {"arrowstyle": "-", "color": colour, "linewidth": 0.7, "alpha": 0.7, "shrinkA": 0, "shrinkB": 3}
    axes.annotate(
        "", end, begin, xycoords="axes fraction", textcoords="axes fraction", arrowprops=thread, annotation_clip=False
    )


def _spread(wanted: Sequence[float], heights: Sequence[float], space: float, size: float = LABEL_SIZE) -> list[float]:
    """Return the places nearest to the wanted ones, in the same order, without overlap.

    All places lie within `space`; if they do not fit, all overlap equally. After subtracting the heights below each
    label, this is a least-squares fit of a nondecreasing sequence (pool adjacent violators, Ayer et al. 1955).
    """
    order = sorted(range(len(wanted)), key=lambda nth: wanted[nth])
    # The second line of a label must not reach the title or the axis.
    margins = [max(0.0, heights[nth] / 2 - size * 0.6) for nth in (order[0], order[-1])]
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
