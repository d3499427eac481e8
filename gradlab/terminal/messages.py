"""Messages on stderr, which may be closed, and the display of progress that suits stderr."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING

from gradlab.errors import printable

if TYPE_CHECKING:
    from typing import TextIO

    from gradlab.terminal.progress import ProgressBar, ProgressLines


def print_message(text: str) -> None:
    """Print a line to stderr. If stderr is closed, the work continues."""
    try:
        if sys.stderr:  # None if the caller closed it
            sys.stderr.write((wrapped(printable(text)) if sys.stderr.isatty() else printable(text)) + "\n")
            sys.stderr.flush()
    except (OSError, ValueError):
        discard_output(sys.stderr)


def wrapped(text: str) -> str:
    """Break lines between words to fit the terminal; indented ones, as of tracebacks, stay as they are."""
    width = get_terminal_size().columns
    lines = text.splitlines() or [""]
    return "\n".join(
        line if line.startswith(" ") else fill(line, width, break_long_words=False, break_on_hyphens=False) or line
        for line in lines
    )


def discard_output(stream: TextIO) -> None:
    """Discard the rest of the stream's output, so that Python can flush it at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def progress_display() -> ProgressBar | ProgressLines:
    """Return a bar if stderr is a terminal, and lines of text if not.

    A command that a notebook's cell starts has a terminal whose every change the notebook keeps, so it prints lines.
    """
    from rich.console import Console

    from gradlab.terminal.progress import ProgressBar, ProgressLines

    console = Console(stderr=True, force_jupyter=False)
    # with FORCE_COLOR, rich takes a log file for a terminal
    is_terminal = console.is_terminal and sys.stderr and sys.stderr.isatty()
    is_in_cell = "JPY_PARENT_PID" in os.environ  # set by Jupyter for a kernel and what it starts
    return ProgressBar(console) if is_terminal and not is_in_cell else ProgressLines(print_message)
