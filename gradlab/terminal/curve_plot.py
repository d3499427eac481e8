"""Loss curves on a terminal: in braille dots with the colours of the figure, or in plain ASCII."""

from __future__ import annotations

import math
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

from gradlab.errors import printable
from gradlab.plotting.lines import BLACK
from gradlab.plotting.views import end_of
from gradlab.plotting.y_axis import y_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradlab.plotting.lines import Line
    from gradlab.plotting.views import View
    from gradlab.plotting.y_axis import YLimits

NARROW = 60  # columns; a picture needs at least as many
WIDEST = 100  # columns of a picture
ROWS, MOST_ROWS = 12, 24  # more than 12 if there are more curves
MARKS = "*o+x#@%&=$"  # one per curve without Unicode
MOST_POINTS = 2000  # of a curve
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of a braille cell, by column and row
BRAILLE = 0x2800


class Glyphs(NamedTuple):
    """The characters of a picture, and how many dots one of them has across and down."""

    across: int
    down: int
    vertical: str
    horizontal: str
    corner: str
    tick: str
    ellipsis: str
    cross: str


UNICODE = Glyphs(2, 4, "│", "─", "└", "┤", "…", "×")
ASCII = Glyphs(1, 1, "|", "-", "+", "+", "~", "x")


class Canvas:
    """Cells of dots; the last curve through a cell gives its colour, or its mark in ASCII."""

    def __init__(self, columns: int, rows: int, glyphs: Glyphs) -> None:
        self.columns, self.rows, self.glyphs = columns, rows, glyphs
        self.cells: dict[tuple[int, int], tuple[int, int]] = {}  # by row and column: dots, and the curve's number

    def set(self, x: int, y: int, curve: int) -> None:
        """Set the dot x from the left and y from the top; outside, do nothing."""
        column, row = x // self.glyphs.across, y // self.glyphs.down
        if 0 <= column < self.columns and 0 <= row < self.rows:
            dots, _ = self.cells.get((row, column), (0, curve))
            self.cells[row, column] = dots | DOTS[x % self.glyphs.across][y % self.glyphs.down], curve

    def line(self, row: int, styles: Sequence[str]) -> Text:
        """Return a row of the canvas."""
        text = Text()
        cells = (self.cells.get((row, column), (0, -1)) for column in range(self.columns))
        for curve, alike in groupby(cells, key=lambda cell: cell[1]):
            marks = "".join(self._mark(dots, curve) for dots, _ in alike)
            text.append(marks, styles[curve] if curve >= 0 else "")
        return text

    def _mark(self, dots: int, curve: int) -> str:
        if curve < 0:
            return " "
        return chr(BRAILLE + dots) if self.glyphs is UNICODE else MARKS[curve % len(MARKS)]


def curve_lines(view: View, width: int, quantity: str, *, unicode: bool, coloured: bool) -> list[Text]:
    """Return the lines of a picture of these curves, at most `width` columns wide.

    Args:
        view: the curves, and the ranges of the axes.
        width: the width of the terminal in columns.
        quantity: the name of what is drawn.
        unicode: use braille dots and lines; else ASCII, with a mark for each curve.
        coloured: whether the terminal has colours; without, curves have dashes.
    """
    glyphs = UNICODE if unicode else ASCII
    rows = min(MOST_ROWS, max(ROWS, len(view.lines)))
    ticks = dict(_tick_rows(view.limits, rows))
    before = max(map(len, ticks.values()), default=0)
    labels = [_label(line, nth, view, glyphs, width // 3) for nth, line in enumerate(view.lines)]
    columns = min(width, WIDEST) - before - 3 - max(map(len, labels))
    canvas = Canvas(columns, rows, glyphs)
    for nth, line in enumerate(view.lines):
        _draw(canvas, line, nth, view, dashed=unicode and not coloured)
    styles = ["" if line.colour == BLACK or not coloured else line.colour for line in view.lines]
    places = _label_rows([_share(end_of(line, view.limits).y, view.limits) * (rows - 1) for line in view.lines], rows)
    found = [Text(printable(y_label(quantity, view.axis, view.lines)))]
    for row in range(rows):
        side = glyphs.tick if row in ticks else glyphs.vertical
        text = Text(f"{ticks.get(row, ''):>{before}}{side}") + canvas.line(row, styles)
        for nth in (nth for nth, place in enumerate(places) if place == row):
            text.append(f" {labels[nth]}", styles[nth])
        text.rstrip()
        found.append(text)
    found.append(Text(" " * before + glyphs.corner + glyphs.horizontal * columns))
    first, last = f"{view.left:,.0f}", f"{view.right:,.0f}"
    found.append(Text(" " * (before + 1) + f"{first}{view.axis:^{columns - len(first) - len(last)}}{last}"))
    return found


def _label(line: Line, nth: int, view: View, glyphs: Glyphs, most: int) -> str:
    """Return the name of a curve, in ASCII after its mark, with × if it stops being finite."""
    name = printable(line.name).replace("\N{NO-BREAK SPACE}", " ")
    if glyphs is ASCII:
        name = f"{MARKS[nth % len(MARKS)]} {name.encode('ascii', 'replace').decode()}"
    end = f" {glyphs.cross}" if line.finite < len(line.band.median) else ""
    end = end or (" ^" if end_of(line, view.limits).leaves else "")
    return (name if len(name) + len(end) <= most else name[: most - len(end) - 1] + glyphs.ellipsis) + end


def _draw(canvas: Canvas, line: Line, nth: int, view: View, *, dashed: bool) -> None:
    """Draw a curve as far as it is finite, as straight pieces between its points."""
    across, down = canvas.columns * canvas.glyphs.across - 1, canvas.rows * canvas.glyphs.down - 1
    wide = (view.right - view.left) or 1.0
    on_off = [int(length + 0.5) for length in line.dash[1]] if dashed and line.dash != "-" else []
    points: list[tuple[int, int]] = []
    n, stride = line.finite, max(1, line.finite // MOST_POINTS)
    for at in (*range(0, n, stride), *([n - 1] if n else [])):
        share = _share(line.band.median[at], view.limits)
        points.append((round((line.band.x[at] - view.left) / wide * across), round((1 - share) * down)))
    for place, (x, y) in enumerate(_pieces(points)):
        if not on_off or _is_on(place, on_off):
            canvas.set(x, y, nth)


def _pieces(points: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the dots of straight pieces between the points."""
    if len(points) == 1:
        yield points[0]
    for (x, y), (right, up) in pairwise(points):
        steps = max(abs(right - x), abs(up - y), 1)
        for step in range(steps + 1):
            yield round(x + (right - x) * step / steps), round(y + (up - y) * step / steps)


def _is_on(place: int, on_off: Sequence[int]) -> bool:
    """Return whether a dash, not a gap, is at this place of a curve."""
    place %= sum(on_off)
    for nth, length in enumerate(on_off):
        if place < length:
            return nth % 2 == 0
        place -= length
    return False


def _share(y: float, limits: YLimits) -> float:
    """Return the height of a value, 0 at the bottom and 1 at the top; a little outside for values beyond."""
    bottom, top = limits.bottom, limits.top
    if limits.log:
        y, bottom, top = math.log(max(y, bottom / 10)), math.log(bottom), math.log(top)
    return min(max((y - bottom) / (top - bottom), -0.2), 1.2)


def _row_of(y: float, limits: YLimits, rows: int) -> int:
    return min(rows - 1, max(0, round((1 - _share(y, limits)) * (rows - 1))))


def _label_rows(heights: Sequence[float], rows: int) -> list[int]:
    """Return a row for each label: that of its height above the bottom row, or the next free one, in their order.

    Labels for which no row is left have the row -1.
    """
    places = [-1] * len(heights)
    order = sorted(range(len(heights)), key=lambda nth: -heights[nth])[:rows]
    row = -1
    for nth in order:
        row = places[nth] = max(row + 1, round(rows - 1 - heights[nth]))
    row = rows
    for nth in reversed(order):
        row = places[nth] = min(row - 1, places[nth])
    return places


def _tick_rows(limits: YLimits, rows: int) -> Iterator[tuple[int, str]]:
    """Yield the rows of round values on the y axis, with these values."""
    taken: set[int] = set()
    for value in _round_values(limits):
        row = _row_of(value, limits, rows)
        if limits.bottom <= value <= limits.top and not taken & {row - 1, row, row + 1}:
            taken.add(row)
            yield row, f"{value:.3g}"


def _round_values(limits: YLimits) -> list[float]:
    """Return about four round values within the limits."""
    low, high = limits.bottom, limits.top
    if limits.log:
        first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
        every = max(1, -(-(last - first + 1) // 5))
        powers = [10.0**power for power in range(first, last + 1, every)]
        return powers if len(powers) > 1 else [low * (high / low) ** share for share in (0.1, 0.9)]
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * size for factor in (1, 2, 5) if factor * size >= rough), 10 * size)
    return [nth * step for nth in range(math.ceil(low / step), math.floor(high / step) + 1)]
