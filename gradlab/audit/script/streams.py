"""The streams of a script and of its report."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gradlab.audit.script.signals import flush

if TYPE_CHECKING:
    from collections.abc import Sequence


class Streams:
    """The script's streams. With `to_stderr`, its stdout goes to stderr, and stdout takes only the report.

    `errors` are Python's original error handlers of stdout and stderr, None if unknown.
    """

    def __init__(self, *, to_stderr: bool, errors: Sequence[str | None] = (None, None)) -> None:
        for stream, mode in zip((sys.stdout, sys.stderr), errors, strict=True):
            if mode and hasattr(stream, "reconfigure"):
                stream.reconfigure(errors=mode)
        self._stdout: Any = sys.stdout
        self._stderr = sys.stderr
        self._number_of_stderr = _number_of(sys.stderr)
        self._replaced = False  # whether sys.stdout is temporarily replaced
        self._number: int | None = None
        if not to_stderr:
            return
        try:
            if sys.stdout.fileno() == 1:  # also redirects C code and child processes
                self._number = os.dup(1)
                os.dup2(2, 1)
                return
        except (OSError, ValueError, AttributeError):
            pass
        sys.stdout, self._replaced = sys.stderr, True

    def write_result(self, text: str) -> None:
        """Write to the original stdout, even if the script has replaced or closed it."""
        if self._number is None:
            self._stdout.write(text)
            self._stdout.flush()
            return
        with open(self._number, "w", encoding="utf-8", closefd=False) as stream:  # a file descriptor, not a path
            stream.write(text)

    def write_message(self, text: str) -> None:
        """Write a line to the original stderr, even if the script closed sys.stderr."""
        with suppress(OSError, ValueError, AttributeError):
            try:
                self._stderr.write(f"{text}\n")
                self._stderr.flush()
            except (
                RuntimeError,
                ValueError,
            ):  # blocked, as a signal interrupted a write, or closed
                if self._number_of_stderr is not None:
                    os.write(self._number_of_stderr, f"{text}\n".encode(self._stderr.encoding, "backslashreplace"))

    def take_back(self) -> None:
        """Restore stdout, to print an error instead of the report."""
        if self._number is not None:
            flush()
            os.dup2(self._number, 1)

    def restore(self) -> None:
        """Restore sys.stdout if it was replaced; set it to None if the script closed it."""
        if self._replaced:
            sys.stdout = self._stdout
        if getattr(sys.stdout, "closed", False):
            sys.stdout = None  # as Python does without a stdout


def _number_of(stream: Any) -> int | None:
    """Return the file descriptor of a stream, None without one."""
    with suppress(OSError, ValueError, AttributeError):
        return int(stream.fileno())
    return None
