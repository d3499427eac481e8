"""Output of the command line: results go to stdout, messages to stderr."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from shutil import get_terminal_size
from textwrap import fill
from typing import TYPE_CHECKING

from gradlab.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

    from rich.console import Console


def print_result(text: object, end: str = "\n") -> None:
    """Print a line of the result to stdout."""
    print(printable(text), end=end)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines of the result to stdout; on a terminal, break them between words."""
    for line in lines:
        print(_wrapped(printable(line)) if sys.stdout.isatty() else printable(line))


def print_json(document: object) -> None:
    """Print one strict JSON document to stdout."""
    from gradlab.store import strict_json

    print(strict_json(document, indent=2, ascii_only=True))


def print_word_list(words: dict[str, str], kind: str, *, as_json: bool) -> None:
    """Print names and meanings to stdout, as a table or as one JSON document."""
    if as_json:
        print_json({kind: [{"name": name, "what": meaning} for name, meaning in words.items()]})
        return
    from gradlab.terminal.lists import word_list

    stdout_console().print(word_list(words))


def print_markdown(text: str) -> None:
    """Print a Markdown document to stdout: laid out on a terminal, else as it is."""
    console = stdout_console()
    if not console.is_terminal:
        print_result(text, end="")
        return
    from gradlab.terminal.pages import MarkdownPage

    console.print(MarkdownPage(text))


def stdout_console() -> Console:
    """Return the console that prints tables to stdout."""
    from rich.console import Console

    return Console(highlight=False)


def print_message(text: str) -> None:
    """Print a line to stderr. If stderr is closed, the work continues."""
    try:
        if sys.stderr:  # None if the caller closed it; print would then write to stdout
            print(_wrapped(printable(text)) if sys.stderr.isatty() else printable(text), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        discard_output(sys.stderr)


def _wrapped(text: str) -> str:
    """Break lines between words to fit the terminal; indented ones, as of tracebacks, stay as they are."""
    width = get_terminal_size().columns
    lines = text.splitlines() or [""]
    return "\n".join(
        line if line.startswith(" ") else fill(line, width, break_long_words=False, break_on_hyphens=False) or line
        for line in lines
    )


def print_messages(messages: Sequence[str], most: int = 3) -> None:
    """Print the first `most` messages to stderr, and the number of the others."""
    for nth, message in enumerate(messages[:most], 1):
        more = len(messages) - most
        print_message(f"{message} (and {more} more)" if nth == most and more > 0 else message)


def discard_output(stream: TextIO) -> None:
    """Discard the rest of the stream's output, so that Python can flush it at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
