"""Threads of the script: if several train at the same time, the audit stops.

A backward pass writes `.grad` without Python's lock. Reading it from another thread meanwhile can crash the process.
"""

from __future__ import annotations

import threading
from threading import get_ident
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gradlab.audit.recording.usual_updates import FastPath

PATIENCE = 1.0  # seconds to wait for the lock; after a fork, its holder may no longer exist


class TrainingThread:
    """The thread that trains: it runs a backward pass or reads gradients.

    Python switches threads only at calls and at ends of loops, so two attributes can be read together without a lock.

    `on_conflict` is called when another thread trains at the same time.
    """

    def __init__(self, on_conflict: Callable[[], None]) -> None:
        self.current: int | None = None  # its id, or None
        self.depth = 0  # of nested backward passes
        self.stopped = False  # after a conflict
        self._on_conflict = on_conflict
        self._lock = threading.RLock()
        self._entered = 0  # times by the current thread, as by a signal handler

    def enter(self) -> bool:
        """Wait for other threads to leave, and return whether they did; then `leave` must follow."""
        if self.stopped:
            return False
        if not self._lock.acquire(False) and not self._lock.acquire(timeout=PATIENCE):
            self._stop()
            return False
        self._entered += 1
        return True

    def may_record(self, trains: bool) -> bool:
        """Return whether to record this thread, which has entered.

        `trains` is true for a backward pass, a step or a clearing. During another thread's pass this is a conflict.
        """
        if trains and not self.depth:
            self.current = get_ident()
        elif trains and self.current != (me := get_ident()) and _is_of_script(me):
            self._stop()
        return not self.stopped  # another thread may have stopped it meanwhile

    def leave(self, fast: FastPath | None) -> None:
        """Open the fast path, if any, and let other threads enter."""
        if not self.depth:
            self.current = None
        self._entered -= 1
        if fast is not None and not self._entered:
            fast.open(self.current)
        self._lock.release()

    def _stop(self) -> None:
        self.stopped = True
        self._on_conflict()


def _is_of_script(thread: int) -> bool:
    """Say whether the script started this thread. Autograd's own threads, as for a GPU, belong to a running pass."""
    of_others = threading._DummyThread  # noqa: SLF001 - no public equivalent
    return any(each.ident == thread and not isinstance(each, of_others) for each in threading.enumerate())


def other_threads_alive(threads: Iterable[int | None]) -> set[int | None]:
    """Return those of these threads that are alive, except the current one."""
    others = set(threads) - {None, get_ident()}
    return others and others & {each.ident for each in threading.enumerate()}
