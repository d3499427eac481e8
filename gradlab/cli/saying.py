"""What the command line says: answers on stdout, talk on stderr."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from gradlab.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from rich.console import Console


def print_json(document: object) -> None:
    """Print one strict JSON document."""
    from gradlab.store import strict_json

    print(strict_json(document, indent=2, ascii_only=True))


def console_() -> Console:
    """Return what tables are printed on."""
    from rich.console import Console

    return Console(highlight=False)


def answer(text: object, end: str = "\n") -> None:
    """Print a line of the answer."""
    print(printable(text), end=end)


def say(text: str) -> None:
    """Say it on stderr; where nobody listens, the work goes on."""
    try:
        if sys.stderr:  # None where the caller has closed it, and print would write to stdout
            print(printable(text), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        drop(sys.stderr)


def tell(messages: Sequence[str], most: int = 3) -> None:
    """Say the first of these messages, and how many more there are."""
    for nth, message in enumerate(messages[:most], 1):
        more = len(messages) - most
        say(f"{message} (and {more} more)" if nth == most and more > 0 else message)


def drop(stream: TextIO) -> None:
    """Let Python find nothing to complain of when it flushes the stream at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
