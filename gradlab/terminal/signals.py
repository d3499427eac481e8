"""Signals during training: the first stops it after the current step, the second ends the process at once."""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from gradlab.runs import Stop


class Interrupted(BaseException):
    """A signal ended the command, with this message and exit status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Yield a `Stop` that Ctrl-C and SIGTERM request.

    Raises:
        Interrupted: a signal stopped the training, after a step or between steps. The status is 130 for Ctrl-C and
            143 for SIGTERM.
    """
    from gradlab.runs import Stop, StoppedError

    stop = Stop()
    received: list[int] = []

    def receive(number: int, _frame: FrameType | None) -> None:
        if received:
            _end_at_once(128 + number)
        received.append(number)
        stop.requested = True
        if not stop.checked_after_steps:
            raise Interrupted("Stopped. Run the same command to continue.", 128 + number)

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    except StoppedError as stopped:
        raise Interrupted(str(stopped), 128 + received[0]) from None
    finally:
        for number, handler in before.items() if not received else ():
            signal.signal(number, handler)  # after a signal, keep ours: a second one ends the process


def _end_at_once(status: int) -> NoReturn:
    """End the process without a message. On a terminal, show the cursor again, which a bar has hidden."""
    if sys.stderr and sys.stderr.isatty() and select.select([], [sys.stderr], [], 0)[1]:
        os.write(sys.stderr.fileno(), b"\x1b[?25h\n")
    os._exit(status)
