"""Locks as Python has them on Windows: no fcntl, and an msvcrt that locks the bytes at the position of a handle.

The lock below it is a real one, flock's, so that real processes exclude one another and one that is killed frees it.
As on Windows it is exclusive for readers too; and a byte within the file, which nobody else could read, is refused.
"""

from __future__ import annotations

import fcntl
import os
import sys
from types import ModuleType

LARGEST = 2**31 - 1  # the position is a C long


def hide_fcntl() -> None:
    """Be on Windows, as far as locks go, from now on."""
    msvcrt = ModuleType("msvcrt")
    vars(msvcrt).update(LK_NBLCK=2, locking=locking)
    sys.modules["msvcrt"] = msvcrt
    sys.modules["fcntl"] = None  # type: ignore[assignment]  # as import takes one that is not there


def locking(handle: int, mode: int, count: int) -> None:
    """Lock bytes at the handle's position at once, or raise PermissionError."""
    position = os.lseek(handle, 0, os.SEEK_CUR)
    assert mode == 2
    assert os.fstat(handle).st_size <= position <= LARGEST - count
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PermissionError(*error.args) from None
