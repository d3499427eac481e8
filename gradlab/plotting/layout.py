"""The layout of a sweep's figure: title, caption, rows of panels, and space beside them."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

from gradlab.errors import printable
from gradlab.plotting.labels import width_of
from gradlab.plotting.rendering import FAINT, dots_per_inch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradlab.plotting.panels import PhaseMap, Profile

CAPTION_SIZE = 9.0  # points
LEFT, GAP, BELOW, BETWEEN = 0.72, 0.22, 0.52, 0.34  # inches left of, between and below panels, and between rows


class Layout(NamedTuple):
    """A figure and its axes."""

    figure: Figure
    panels: list[Axes]
    beside: Axes  # for a colour bar or labels
    narrow: bool
    columns: int

    def label_y(self, label: str) -> None:
        """Label the y-axis of the first panel of each row."""
        for axes in self.panels[:: self.columns]:
            axes.set_ylabel(label)


def lay_out(
    panels: Sequence[PhaseMap | Profile], title: str, caption: Sequence[str], width: int, right: float
) -> Layout:
    """Return a figure of `width` pixels with title, caption and axes, with `right` inches beside the panels."""
    from matplotlib.figure import Figure

    dpi = dots_per_inch(width)
    wide = width / dpi
    columns = min(len(panels), 2 if len(panels) == 4 or wide < 6 else 3)
    rows = -(-len(panels) // columns)
    titled = any(each.title for each in panels) and len(panels) > 1
    panel = (wide - LEFT - right - GAP * (columns - 1)) / columns
    tall = min(max(2.1, 1.05 * panel), max(2.3, 0.6 * wide - 1.2))
    lines = _wrap(caption, 72 * (wide - LEFT - 0.1))
    above = 0.58 + 0.2 * titled + 0.17 * (len(lines) - 1)
    high = above + rows * tall + (rows - 1) * BETWEEN + BELOW
    figure = Figure(figsize=(wide, high), dpi=dpi)
    axes: list[Axes] = []
    for nth, each in enumerate(panels):
        row, column = divmod(nth, columns)
        place = (
            (LEFT + column * (panel + GAP)) / wide,
            1 - (above + (row + 1) * tall + row * BETWEEN) / high,
            panel / wide,
            tall / high,
        )
        added = figure.add_axes(place, sharey=axes[0] if axes else None)
        if titled:
            added.set_title(printable(each.title), loc="left", fontsize=10, pad=4, parse_math=False)
        last = nth + columns >= len(panels)
        added.tick_params(length=3, labelleft=column == 0, labelbottom=last)
        added.set_xlabel(printable(each.x_key) if last else "")
        axes.append(added)
    _write_head(figure, title or (panels[0].title if len(panels) == 1 else ""), lines)
    beside = figure.add_axes(((wide - right + 0.16) / wide, BELOW / high, 0.14 / wide, 1 - (above + BELOW) / high))
    return Layout(figure, axes, beside, panel < 2.0, columns)


def _write_head(figure: Figure, title: str, caption: Sequence[str]) -> None:
    wide, high = figure.get_size_inches()
    figure.text(
        LEFT / wide, 1 - 0.28 / high,
        textwrap.shorten(printable(title), int(9.5 * wide), placeholder=" …") if title else "",
        fontsize=12, fontweight="bold", parse_math=False,
    )  # fmt: skip
    points = 72 * (wide - LEFT - 0.1)
    for nth, line in enumerate(caption):
        figure.text(
            LEFT / wide, 1 - (0.48 + 0.17 * nth) / high, line, color=FAINT, parse_math=False,
            fontsize=min(CAPTION_SIZE, CAPTION_SIZE * points / max(1.0, width_of(line or " ", CAPTION_SIZE))),
        )  # fmt: skip


def _wrap(words: Sequence[str], points: float) -> list[str]:
    """Return the words in lines of at most `points` points."""
    lines = [""]
    for word in words:
        longer = f"{lines[-1]}  ·  {word}" if lines[-1] else word
        if lines[-1] and width_of(longer, CAPTION_SIZE) > points:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
