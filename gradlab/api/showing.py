"""Results as text, HTML and pictures."""

from __future__ import annotations

import base64
from html import escape
from io import StringIO
from itertools import pairwise
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from gradlab.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.figure import Figure
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

WIDE = 200  # characters: no column is dropped
SHOWN_WIDTH = 720  # pixels of a picture in a notebook
_COLOURS = {"green": "#1a7f37", "red": "#cf222e", "bold red": "#cf222e", "yellow": "#9a6700", "cyan": "#0969da"}


def terminal_width() -> int:
    """Return the width of the terminal, or 80 without one."""
    return get_terminal_size().columns


def text_of(*parts: RenderableType, width: int) -> str:
    """Return tables and lines as plain text."""
    from rich.console import Console

    out = StringIO()
    console = Console(
        file=out, width=width, color_system=None, highlight=False, force_terminal=False, force_jupyter=False
    )
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def table_html(table: Table) -> str:
    """Return a table as HTML, with its title and caption."""
    right = [column.justify == "right" for column in table.columns]
    head = ""
    if table.show_header:
        names = "".join(_cell("th", column.header, right) for column, right in zip(table.columns, right, strict=True))
        head = f"<thead><tr>{names}</tr></thead>"
    lines = zip(*(column.cells for column in table.columns), strict=True)
    body = "".join(
        f"<tr>{''.join(_cell('td', each, right) for each, right in zip(line, right, strict=True))}</tr>"
        for line in lines
    )
    title = f"<div>{escape(str(table.title))}</div>" if table.title else ""
    caption = f"<div><small>{escape(str(table.caption))}</small></div>" if table.caption else ""
    return f"{title}<table>{head}<tbody>{body}</tbody></table>{caption}"


def _cell(tag: str, content: Any, right: bool) -> str:
    side = "right" if right else "left"
    return f'<{tag} style="text-align: {side}">{text_html(content)}</{tag}>'


def text_html(text: Text) -> str:
    """Return text as HTML, in the colours of its styles."""
    return "<br>".join(map(_line_html, text.split("\n", allow_blank=True)))


def _line_html(line: Text) -> str:
    """Return a line as HTML, each part in the colour of the innermost style."""
    content = printable(line.plain)
    ends = sorted({0, len(content), *(end for span in line.spans for end in (span.start, span.end))})
    parts = []
    for start, end in pairwise(ends):
        styles = [
            str(line.style),
            *(str(span.style) for span in line.spans if span.start <= start and end <= span.end),
        ]
        colour = next((_COLOURS[each] for each in reversed(styles) if each in _COLOURS), None)
        part = escape(content[start:end])
        parts.append(f'<span style="color: {colour}">{part}</span>' if colour else part)
    return "".join(parts)


def lines_html(lines: Iterable[Text]) -> str:
    """Return lines of text as HTML; a text of several lines, such as a traceback, keeps its spaces."""
    return "".join(f"<div>{_kept_html(line) if chr(10) in line.plain else text_html(line)}</div>" for line in lines)


def _kept_html(text: Text) -> str:
    lines = "\n".join(map(_line_html, text.split("\n", allow_blank=True)))
    return f'<pre style="white-space: pre-wrap">{lines}</pre>'


def picture_html(figure: Figure, description: str) -> str:
    """Return a picture as HTML that needs no file."""
    from gradlab import plotting

    content = base64.b64encode(plotting.rendered(figure, ".png")).decode()
    return (
        f'<img src="data:image/png;base64,{content}" alt="{escape(description)}" '
        f'style="max-width: 100%; width: {SHOWN_WIDTH}px">'
    )
