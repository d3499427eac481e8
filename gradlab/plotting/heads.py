"""The head of a figure: its title and its caption, wrapped to its width."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.errors import printable
from gradlab.plotting.rendering import FAINT, font_scale
from gradlab.plotting.texts import cut, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

TITLE_SIZE, CAPTION_SIZE = 12.0, 9.0  # points
TITLE_LINE, CAPTION_LINE, ABOVE, BELOW = 0.22, 0.17, 0.1, 0.09  # inches: per line, above the head and below it
MOST_LINES = 2  # of a title
BETWEEN = "  ·  "  # parts of a caption


class Head(NamedTuple):
    """The lines of a title and of a caption, and the size of their fonts, 1 for a figure of usual width."""

    title: list[str]
    caption: list[str]
    scale: float

    @property
    def height(self) -> float:
        """The height in inches, with the space around it."""
        return self.scale * (ABOVE + TITLE_LINE * len(self.title) + CAPTION_LINE * len(self.caption) + BELOW)

    @property
    def extra_height(self) -> float:
        """The height in inches of the lines beyond one of each."""
        return self.scale * (TITLE_LINE * (len(self.title) - 1) + CAPTION_LINE * (len(self.caption) - 1))

    def write(self, figure: Figure, left: float) -> None:
        """Write the lines at the top of the figure, `left` inches from its left edge."""
        wide, high = figure.get_size_inches()
        down = self.scale * ABOVE
        looks: list[tuple[float, dict[str, Any]]]
        looks = [(TITLE_LINE, {"fontsize": TITLE_SIZE * self.scale, "fontweight": "bold"})] * len(self.title)
        looks += [(CAPTION_LINE, {"fontsize": CAPTION_SIZE * self.scale, "color": FAINT})] * len(self.caption)
        for line, (space, look) in zip([*self.title, *self.caption], looks, strict=True):
            down += self.scale * space
            figure.text(left / wide, 1 - (down - 0.05 * self.scale) / high, line, parse_math=False, **look)


def head_of(title: str, caption: Sequence[str], wide: float, left: float) -> Head:
    """Return the head of a figure `wide` inches wide, `left` inches from its left edge.

    Args:
        title: the title; "" for none.
        caption: the parts of the caption.
        wide: the width of the figure in inches.
        left: where the lines begin.
    """
    scale = font_scale(wide)
    points = 72 * (wide - left - 0.1)
    lines = wrapped(printable(title).split(), TITLE_SIZE * scale, points, weight="bold")
    return Head(cut(lines, MOST_LINES), _caption_lines(caption, CAPTION_SIZE * scale, points), scale)


def _caption_lines(parts: Sequence[str], size: float, points: float) -> list[str]:
    """Return the parts in lines; a part that is wider than a line is broken between its words."""
    fitting = [line for part in parts if part for line in wrapped(printable(part).split(), size, points)]
    return wrapped(fitting, size, points, between=BETWEEN)
