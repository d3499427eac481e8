"""SIGINT and SIGTERM during an audit: exactly one report is written."""

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
    """Call `terminated` at SIGTERM, and exit with 143 if it returns True. A handler of the script takes precedence."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    owner = os.getpid()

    def came(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker: it ends as without the audit
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
    """Delays SIGINT after a script has ended, so that a second Ctrl-C does not lose the report.

    As a context manager, it restores the handler at the end. An ignored SIGINT stays ignored.
    """

    def __init__(self) -> None:
        self.came = False  # whether one was delayed
        self._before: Any = None  # the original handler

    def hold(self) -> None:
        """Delay SIGINT from now on. Only the main thread needs this."""
        if threading.current_thread() is not threading.main_thread():
            return
        while self._before is None and signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):
            try:
                self._before = signal.signal(signal.SIGINT, self._came)
            except KeyboardInterrupt:  # it had already been sent
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
    """End the process at once, like a signal: Python runs no cleanup."""
    flush()
    os._exit(status)


def flush() -> None:
    """Flush stdout and stderr, and ignore streams that fail."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError, RuntimeError):  # RuntimeError: a signal interrupted a write
            stream.flush()
