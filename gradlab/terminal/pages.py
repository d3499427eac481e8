"""Markdown pages on a terminal."""

from __future__ import annotations

from rich.markdown import Markdown


def laid_out(text: str) -> Markdown:
    """Return a Markdown document that rich lays out for the width of the terminal."""
    return Markdown(text, code_theme="ansi_dark")
