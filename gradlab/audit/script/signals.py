"""SIGINT and SIGTERM around a script: one report, however it ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Self

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


@contextmanager
def on_sigterm(terminated: Callable[[], bool]) -> Iterator[None]:
    """Call `terminated` at SIGTERM, and end by 143 if it returns True; unless the script handles or ignores it."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    owner = os.getpid()

    def came(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a worker that was forked: it ends as it would have
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        ends = True
        try:
            ends = terminated()
        finally:
            if ends:
                end_at_once(TERMINATED)

    signal.signal(signal.SIGTERM, came)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is came:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Interrupts:
    """Holds SIGINT back once a script has ended, so that the report is not lost to a second Ctrl-C.

    As a context, it restores the handler of SIGINT. Where it is ignored, it stays so.
    """

    def __init__(self) -> None:
        self.came = False  # whether one was held back
        self._before: Any = None  # its handler

    def hold(self) -> None:
        """Hold it back from now on; not in another thread than the main one, where it never comes."""
        if threading.current_thread() is not threading.main_thread():
            return
        while self._before is None and signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
            try:
                self._before = signal.signal(signal.SIGINT, self._came)
            except KeyboardInterrupt:  # it was on its way
                self.came = True

    def _came(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None and signal.getsignal(signal.SIGINT) == self._came:
            signal.signal(signal.SIGINT, self._before)
        self._before = None


def end_at_once(status: int) -> NoReturn:
    """End the process as a signal does: Python runs nothing more then, either."""
    flush()
    os._exit(status)


def flush() -> None:
    """Write out what the script has printed, as far as its streams let us."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError, RuntimeError):  # the last: a signal came as it was written
            stream.flush()
