"""Output of the command line: results go to stdout, messages to stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gradlab.errors import printable
from gradlab.terminal.messages import discard_output as discard_output
from gradlab.terminal.messages import print_message as print_message
from gradlab.terminal.messages import wrapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console


def print_result(text: object, end: str = "\n") -> None:
    """Print a line of the result to stdout."""
    print(printable(text), end=end)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines of the result to stdout; on a terminal, break them between words."""
    for line in lines:
        print(wrapped(printable(line)) if sys.stdout.isatty() else printable(line))


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


def print_messages(messages: Sequence[str], most: int = 3) -> None:
    """Print the first `most` messages to stderr, and the number of the others."""
    for nth, message in enumerate(messages[:most], 1):
        more = len(messages) - most
        print_message(f"{message} (and {more} more)" if nth == most and more > 0 else message)
