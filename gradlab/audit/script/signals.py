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


_handlers: list[object] = []  # of on_sigterm()


class _Fork(threading.local):
    """Lets SIGTERM end a forked process at once, as without the audit.

    A worker of a pool would never run a handler while it waits for a lock, and Python drops signals that come during
    a fork. So SIGTERM is blocked until the child has no handler any more.
    """

    mask: set[int] | None = None  # to restore

    def begin(self) -> None:
        if signal.getsignal(signal.SIGTERM) in _handlers:
            self.mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}))

    def end_in_child(self) -> None:
        if self.mask is not None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.end()

    def end(self) -> None:
        if self.mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        self.mask = None


if hasattr(os, "register_at_fork"):
    _fork = _Fork()
    os.register_at_fork(before=_fork.begin, after_in_parent=_fork.end, after_in_child=_fork.end_in_child)


@contextmanager
def on_sigterm(terminated: Callable[[], bool]) -> Iterator[None]:
    """Call `terminated` at SIGTERM, and exit with 143 if it returns True. A handler of the script takes precedence."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def came(_number: int, _frame: FrameType | None) -> None:
        ends = True
        try:
            ends = terminated()
        finally:
            if ends:
                end_at_once(TERMINATED)

    signal.signal(signal.SIGTERM, came)
    _handlers.append(came)
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
