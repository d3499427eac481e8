"""Where the texts of a figure stand: which overlap, and which are cut off at its edge."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

TOLERANCE = 1.5  # points: the box of a line of text has some space above and below the letters


def text_boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Return the visible texts of the figure with their boxes in pixels, without arrows, as Agg draws them."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib's
    hidden = {text for axes in figure.axes if not axes.axison for text in axes.findobj(Text) if text not in axes.texts}
    outside = {
        label
        for axes in figure.axes
        for axis, (low, high) in ((axes.xaxis, sorted(axes.get_xlim())), (axes.yaxis, sorted(axes.get_ylim())))
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
        if not low <= tick.get_loc() <= high
    }
    shown = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), Text.get_window_extent(text)) for text in shown if text not in hidden | outside]


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Return the pairs of texts whose boxes overlap."""
    less = TOLERANCE * figure.dpi / 72
    found = []
    for (one, first), (other, second) in combinations(text_boxes(figure), 2):
        wide = min(first.x1, second.x1) - max(first.x0, second.x0)
        high = min(first.y1, second.y1) - max(first.y0, second.y0)
        if wide > less and high > less:
            found.append((one, other))
    return found


def clipped(figure: Figure) -> list[str]:
    """Return the texts that leave the figure."""
    edge = figure.bbox
    return [
        text
        for text, box in text_boxes(figure)
        if box.x0 < edge.x0 - 1 or box.y0 < edge.y0 - 1 or box.x1 > edge.x1 + 1 or box.y1 > edge.y1 + 1
    ]
