"""The streams of a script under the audit, and those of its report."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gradlab.audit.script.signals import flush

if TYPE_CHECKING:
    from collections.abc import Sequence


class Streams:
    """The script's streams: as Python opens them; with `aside`, its stdout is stderr, so that ours is the answer's.

    Args:
        aside: see above.
        errors: how stdout and stderr treat what they cannot encode, as Python has opened them; None where not known.

    Attributes:
        answer: writes a text to what was stdout, whatever the script has done to its own since.
    """

    def __init__(self, *, aside: bool, errors: Sequence[str | None] = (None, None)) -> None:
        for stream, mode in zip((sys.stdout, sys.stderr), errors, strict=True):
            if mode and hasattr(stream, "reconfigure"):
                stream.reconfigure(errors=mode)
        self._own: Any = sys.stdout
        self._talk = sys.stderr
        self._aside = False  # whether sys.stdout is another object for a while
        self._number: int | None = None
        if not aside:
            return
        try:
            if sys.stdout.fileno() == 1:  # what its C code and its children print, too
                self._number = os.dup(1)
                os.dup2(2, 1)
                return
        except (OSError, ValueError, AttributeError):
            pass
        sys.stdout, self._aside = sys.stderr, True

    def answer(self, text: str) -> None:
        """Write to what was stdout."""
        if self._number is None:
            self._own.write(text)
            self._own.flush()
            return
        with open(self._number, "w", encoding="utf-8", closefd=False) as stream:  # a number, no path
            stream.write(text)

    def tell(self, text: str) -> None:
        """Write a line to what was stderr; where nobody listens, so be it."""
        with suppress(OSError, ValueError, AttributeError):
            try:
                self._talk.write(f"{text}\n")
                self._talk.flush()
            except RuntimeError:  # a signal came while something was being written to it: it takes no more
                os.write(self._talk.fileno(), f"{text}\n".encode(self._talk.encoding, "backslashreplace"))

    def take_back(self) -> None:
        """Let stdout be itself again, for an answer that is not the report."""
        if self._number is not None:
            flush()
            os.dup2(self._number, 1)

    def restore(self) -> None:
        """Give sys.stdout back where it was another object, and nothing in the place of one that the script closed."""
        if self._aside:
            sys.stdout = self._own
        if getattr(sys.stdout, "closed", False):
            sys.stdout = None  # as Python has it without a stdout
