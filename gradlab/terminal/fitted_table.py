"""Tables that fit the width of a terminal, with colours and number formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from gradlab.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

COLOURS = {
    # verdicts
    "falls": "green",
    "flat": "cyan",
    "oscillates": "yellow",
    "rises": "red",
    "diverges": "bold red",
    # statuses
    "done": "green",
    "failed": "bold red",
}


def literal_text(content: str, style: str = "") -> Text:
    """Return the content without rich markup or terminal commands."""
    return Text(printable(content), style)


def coloured(word: str, text: str = "") -> Text:
    """Return a verdict or a status, or another text, in the colour of the verdict or status."""
    return literal_text(text or word, COLOURS.get(word, ""))


def number_text(value: float | None) -> str:
    """Return a number with four significant digits, "" for None."""
    return "" if value is None else f"{value:.4g}"


def fitted_table(
    columns: Sequence[str],
    optional: Sequence[str],
    lines: Sequence[dict[str, Text]],
    width: int,
    numbers: Sequence[str],
    identifying: Sequence[str] = (),
) -> Table:
    """Return a table that fits `width`. Optional columns are dropped until it does, in the order given.

    Lines that differ in the `identifying` columns stay different: needed columns are kept, and their text wraps.
    """
    shown = list(columns)
    for name in optional:
        kept = [each for each in shown if each in identifying]
        is_needed = _different(lines, kept) > _different(lines, [each for each in kept if each != name])
        if needed_width(shown, lines) > width and not is_needed:
            shown.remove(name)
    table = Table(box=None)
    for name in shown:
        number = name in numbers
        table.add_column(literal_text(name), justify="right" if number else "left", no_wrap=number, overflow="fold")
    for line in lines:
        table.add_row(*(line[name] for name in shown))
    return table


def needed_width(columns: Sequence[str], lines: Sequence[dict[str, Text]]) -> int:
    """Return the width of a table with these columns, in characters; a name may have several lines."""
    cells = {name: [part for line in lines for part in line[name].split()] for name in columns}
    return sum(2 + max([*map(len, name.split("\n")), *(part.cell_len for part in cells[name])]) for name in columns)


def _different(lines: Sequence[dict[str, Text]], names: Sequence[str]) -> int:
    """Return the number of lines that differ in these columns."""
    return len({tuple(line[name].plain for name in names) for line in lines})
