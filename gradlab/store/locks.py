"""File locks of writing processes: held by the kernel, so they always end with the process.

POSIX has flock. Windows locks bytes, and no other process can read a locked byte, so the locked byte is beyond the end
of the file.
"""

from __future__ import annotations

import importlib
import os
import time
from typing import TYPE_CHECKING, Any

from gradlab.errors import StoreError
from gradlab.store.files import open_file, unwritable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Lock = Callable[[int, bool], None]

PATIENCE = 0.5  # seconds a writer waits for a lock, since a reader that checks it holds it for an instant
GLANCE = 0.2  # seconds a reader waits on Windows, where two readers that check at once block each other
BEHIND = 2**31 - 2  # position of the locked byte: the last one that msvcrt can lock


def open_locked(file: Path) -> int:
    """Open the file for appending, and lock it until the returned handle is closed.

    Raises:
        StoreError: the file cannot be written, or this platform has no locks.
        BlockingIOError: another process writes the file.
    """
    lock, _ = _lock_of_platform()
    try:
        handle = open_file(file, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        try:
            _lock_within(PATIENCE, lock, handle, shared=False)
        except BaseException:
            os.close(handle)
            raise
    except BlockingIOError:
        raise
    except OSError as error:
        raise unwritable(file, error) from None
    return handle


def is_locked(file: Path) -> bool:
    """Return whether a process has locked the file for writing.

    Raises:
        StoreError: this platform has no locks.
    """
    lock, patience = _lock_of_platform()
    try:
        handle = open_file(file, os.O_RDONLY)
    except (OSError, StoreError):
        return False
    try:
        _lock_within(patience, lock, handle, shared=True)  # held for an instant; a writer waits longer than that
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _lock_within(seconds: float, lock: Lock, handle: int, *, shared: bool) -> None:
    due = time.monotonic() + seconds
    while True:
        try:
            return lock(handle, shared)
        except BlockingIOError:
            if time.monotonic() >= due:
                raise
        time.sleep(0.01)


def _lock_of_platform() -> tuple[Lock, float]:
    """Return the function that locks an open file, and how many seconds a reader tries.

    The function raises BlockingIOError if another process holds the lock. `shared` locks do not block each other.

    Raises:
        StoreError: this platform has no locks.
    """
    try:
        import fcntl
    except ImportError:
        return _lock_of_windows(), GLANCE

    def lock(handle: int, shared: bool) -> None:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)

    return lock, 0.0


def _lock_of_windows() -> Lock:
    try:
        msvcrt: Any = importlib.import_module("msvcrt")  # its types are known only on Windows
    except ImportError:
        raise StoreError(
            "this platform cannot lock files (Python has neither fcntl nor msvcrt), "
            "so gradlab cannot protect a run from a second writer"
        ) from None

    def lock(handle: int, _shared: bool) -> None:
        before = os.lseek(handle, 0, os.SEEK_CUR)
        os.lseek(handle, BEHIND, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:  # flock raises BlockingIOError instead
            raise BlockingIOError(*error.args) from None
        finally:
            os.lseek(handle, before, os.SEEK_SET)

    return lock
