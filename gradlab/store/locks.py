"""The lock of a process that writes a file: the kernel's, which ends with its process, however that ends.

POSIX has flock. Windows locks bytes, and nobody else can read a locked byte: so the one that is locked lies behind the
end of the file.
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

PATIENCE = 0.5  # seconds a writer waits for a lock: a reader that checks for it holds it for an instant
GLANCE = 0.2  # seconds a reader waits on Windows, where two readers that check at once exclude one another
BEHIND = 2**31 - 2  # position of the byte: the last that msvcrt can lock


def open_locked(file: Path) -> int:
    """Return a handle that appends to the file; until it is closed, no other process can have one.

    Raises:
        StoreError: the file cannot be written, or nothing on this platform can lock it.
        BlockingIOError: another process writes it.
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
    """Return whether a process keeps others from writing the file.

    Raises:
        StoreError: nothing on this platform could tell.
    """
    lock, patience = _lock_of_platform()
    try:
        handle = open_file(file, os.O_RDONLY)
    except (OSError, StoreError):
        return False
    try:
        _lock_within(patience, lock, handle, shared=True)  # held for an instant: a writer waits for longer than that
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
    """Return what locks an open file, and for how many seconds a reader tries to.

    It raises BlockingIOError where another process holds the lock; where `shared`, unless only readers hold it.

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
        msvcrt: Any = importlib.import_module("msvcrt")  # whose types are known on Windows alone
    except ImportError:
        raise StoreError(
            "this platform cannot lock files (Python has neither fcntl nor msvcrt), so gradlab cannot keep "
            "a second process from writing a run, nor see whether it is running"
        ) from None

    def lock(handle: int, _shared: bool) -> None:
        before = os.lseek(handle, 0, os.SEEK_CUR)
        os.lseek(handle, BEHIND, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError as error:  # what flock calls BlockingIOError
            raise BlockingIOError(*error.args) from None
        finally:
            os.lseek(handle, before, os.SEEK_SET)

    return lock
