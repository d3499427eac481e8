"""Threads of the script: one trains at a time, or the audit stops.

A backward pass writes `.grad` without Python's lock: to read one meanwhile, in another thread, breaks the process. So
where several threads train at once, nothing is recorded from then on.
"""

from __future__ import annotations

import threading
from threading import get_ident
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PATIENCE = 1.0  # seconds to wait for another thread that reads gradients; a fork may have left it behind


class TrainingThread:
    """The thread that trains: in which a backward pass is under way, or gradients are read.

    Python changes threads at calls and at ends of loops: between the look at one attribute and the next, no other
    thread comes.

    `on_conflict` is called when another thread trains at the same time.
    """

    def __init__(self, on_conflict: Callable[[], None]) -> None:
        self.current: int | None = None  # its id; None where nothing of that kind is under way
        self.depth = 0  # of backward passes within each other
        self.stopped = False  # after a conflict
        self._on_conflict = on_conflict
        self._lock = threading.RLock()

    def enter(self, trains: bool) -> bool:
        """Wait for other threads to leave, and say whether to record what this one does.

        If it `trains` (a pass, a step or a clearing) during the pass of another thread, that is a conflict.
        """
        if self.stopped:
            return False
        if not self._lock.acquire(blocking=False) and not self._lock.acquire(timeout=PATIENCE):
            self._stop()
            return False
        if trains:
            me = get_ident()
            if not self.depth:
                self.current = me
            elif self.current != me and _is_of_script(me):
                self._stop()
        enters = not self.stopped  # another thread may have stopped it meanwhile
        if not enters:
            self._lock.release()
        return enters

    def leave(self) -> None:
        """Let other threads enter."""
        if not self.depth:
            self.current = None
        self._lock.release()

    def _stop(self) -> None:
        self.stopped = True
        self._on_conflict()


def _is_of_script(thread: int) -> bool:
    """Say whether a script has started this thread: autograd's own, as of a GPU, are part of the pass under way."""
    of_others = threading._DummyThread  # noqa: SLF001 - not public otherwise
    return any(each.ident == thread and not isinstance(each, of_others) for each in threading.enumerate())


def other_threads_alive(threads: Iterable[int | None]) -> set[int | None]:
    """Return which of these threads are alive and not this one."""
    others = set(threads) - {None, get_ident()}
    return others and others & {each.ident for each in threading.enumerate()}
