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
    """The script's streams: as Python opens them; with `to_stderr`, its stdout is stderr, and ours the result's.

    `errors` are how stdout and stderr treat what they cannot encode, as Python has opened them; None where not known.
    """

    def __init__(self, *, to_stderr: bool, errors: Sequence[str | None] = (None, None)) -> None:
        for stream, mode in zip((sys.stdout, sys.stderr), errors, strict=True):
            if mode and hasattr(stream, "reconfigure"):
                stream.reconfigure(errors=mode)
        self._stdout: Any = sys.stdout
        self._stderr = sys.stderr
        self._replaced = False  # whether sys.stdout is another object for a while
        self._number: int | None = None
        if not to_stderr:
            return
        try:
            if sys.stdout.fileno() == 1:  # what its C code and its children print, too
                self._number = os.dup(1)
                os.dup2(2, 1)
                return
        except (OSError, ValueError, AttributeError):
            pass
        sys.stdout, self._replaced = sys.stderr, True

    def write_result(self, text: str) -> None:
        """Write to what was stdout, whatever the script has done to its own since."""
        if self._number is None:
            self._stdout.write(text)
            self._stdout.flush()
            return
        with open(self._number, "w", encoding="utf-8", closefd=False) as stream:  # a number, no path
            stream.write(text)

    def write_message(self, text: str) -> None:
        """Write a line to what was stderr, if it can still be written to."""
        with suppress(OSError, ValueError, AttributeError):
            try:
                self._stderr.write(f"{text}\n")
                self._stderr.flush()
            except RuntimeError:  # a signal came while something was being written to it: it takes no more
                os.write(self._stderr.fileno(), f"{text}\n".encode(self._stderr.encoding, "backslashreplace"))

    def take_back(self) -> None:
        """Let stdout be itself again, for an error in place of the report."""
        if self._number is not None:
            flush()
            os.dup2(self._number, 1)

    def restore(self) -> None:
        """Restore sys.stdout where it was replaced, and leave None in place of one that the script closed."""
        if self._replaced:
            sys.stdout = self._stdout
        if getattr(sys.stdout, "closed", False):
            sys.stdout = None  # as Python has it without a stdout
