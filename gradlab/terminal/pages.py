"""Markdown pages on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markdown import Markdown
from rich.theme import Theme

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

THEME = Theme({"markdown.code": "cyan"})  # rich's own has a black background, which stands out on a light terminal


class MarkdownPage:
    """A Markdown document, laid out for the width of the terminal."""

    def __init__(self, text: str) -> None:
        self._markdown = Markdown(text, code_theme="ansi_dark")  # the terminal's colours and background

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts of the page."""
        with console.use_theme(THEME):
            yield from self._markdown.__rich_console__(console, options)
