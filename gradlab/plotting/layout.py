"""The layout of a sweep's figure: title, caption, rows of panels, and space beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradlab.errors import printable
from gradlab.plotting.heads import MOST_LINES, head_of
from gradlab.plotting.rendering import FONT_SIZE, Page, font_scale
from gradlab.plotting.texts import cut, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradlab.plotting.panels import PhaseMap, Profile

PANEL_TITLE = 0.2  # inches of a line of a panel's title
LEFT, GAP, BELOW, BETWEEN = 0.72, 0.22, 0.52, 0.34  # inches left of, between and below panels, and between rows


class Layout(NamedTuple):
    """A figure and its axes."""

    figure: Figure
    panels: list[Axes]
    beside: Axes  # for a colour bar or labels
    columns: int

    def label_y(self, label: str) -> None:
        """Label the y-axis of the first panel of each row."""
        for axes in self.panels[:: self.columns]:
            axes.set_ylabel(label)


def lay_out(
    panels: Sequence[PhaseMap | Profile], title: str, caption: Sequence[str], page: Page, right: float
) -> Layout:
    """Return a figure on this page with title, caption and axes, with `right` inches beside the panels."""
    from matplotlib.figure import Figure

    wide = page.wide
    scale = font_scale(wide)
    left, gap, below, between = (scale * inches for inches in (LEFT, GAP, BELOW, BETWEEN))
    columns = min(len(panels), 2 if len(panels) == 4 or wide < 6 else 3)
    rows = -(-len(panels) // columns)
    panel = (wide - left - right - gap * (columns - 1)) / columns
    titles = [_panel_title(each.title, panel, scale) if len(panels) > 1 else "" for each in panels]
    title_lines = max(title.count("\n") + 1 if title else 0 for title in titles)
    between += (title_lines - 1) * PANEL_TITLE * scale if title_lines else 0
    tall = min(max(2.1, 1.05 * panel), max(2.3, 0.6 * wide - 1.2))
    head = head_of(title or (panels[0].title if len(panels) == 1 else ""), caption, wide, left)
    above = head.height + title_lines * PANEL_TITLE * scale
    if not page.grows:
        tall = max(0.3, (page.tall - above - below - (rows - 1) * between) / rows)
    high = above + rows * tall + (rows - 1) * between + below
    figure = Figure(figsize=(wide, high), dpi=page.dpi)
    bottoms = [1 - (above + (row + 1) * tall + row * between) / high for row in range(rows)]
    axes: list[Axes] = []
    for nth, each in enumerate(panels):
        row, column = divmod(nth, columns)
        place = ((left + column * (panel + gap)) / wide, bottoms[row], panel / wide, tall / high)
        added = figure.add_axes(place, sharey=axes[0] if axes else None)
        added.set_title(titles[nth], loc="left", fontsize=FONT_SIZE * scale, pad=4, parse_math=False)
        last = nth + columns >= len(panels)
        added.tick_params(length=3, labelleft=column == 0, labelbottom=last, labelsize=FONT_SIZE * scale)
        added.set_xlabel(printable(each.x_key) if last else "")
        axes.append(added)
    head.write(figure, left)
    bar, offset = 0.14 * scale / wide, 1 - (right - 0.16 * scale) / wide
    beside = figure.add_axes((offset, bottoms[-1], bar, 1 - above / high - bottoms[-1]))
    return Layout(figure, axes, beside, columns)


def _panel_title(title: str, inches: float, scale: float) -> str:
    """Return the title of a panel in lines as wide as the panel."""
    return "\n".join(cut(wrapped(printable(title).split(), FONT_SIZE * scale, 72 * inches), MOST_LINES))
