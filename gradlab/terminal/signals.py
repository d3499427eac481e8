"""Signals while runs are trained: the first is heard after the step under way, the second ends the process at once."""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import TYPE_CHECKING, NoReturn, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from gradlab.runs import Stop

HEARD = (signal.SIGINT, signal.SIGTERM)


class SignalledError(BaseException):
    """A signal came while no step was under way that would hear a wish to stop."""


class Signals:
    """Turns Ctrl-C and SIGTERM into a wish to stop, as long as it is entered.

    Attributes:
        number: of the first signal that came, None while none has.
    """

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.number: int | None = None

    @property
    def status(self) -> int:
        """The exit status that goes with the signal: 130 for Ctrl-C, 143 for SIGTERM."""
        assert self.number is not None, "no signal came"
        return 128 + self.number

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._came) for number in HEARD}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items() if self.number is None else ():
            signal.signal(number, handler)  # once one has come, the process is about to end: a second ends it at once

    def _came(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None:
            end_at_once(128 + number)
        self.number = number
        self.stop.requested = True
        if not self.stop.checked_after_steps:
            raise SignalledError


def end_at_once(status: int) -> NoReturn:
    """End the process without another word; a terminal that listens gets back the cursor that a bar has hidden."""
    if sys.stderr and sys.stderr.isatty() and select.select([], [sys.stderr], [], 0)[1]:
        os.write(sys.stderr.fileno(), b"\x1b[?25h\n")
    os._exit(status)
