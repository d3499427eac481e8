"""Locked files that show whether a process has ended."""

from __future__ import annotations

import importlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_fcntl: Any = None  # on Windows: then no process is ever known to have ended
with suppress(ImportError):
    _fcntl = importlib.import_module("fcntl")


def lock_until_the_end(path: Path) -> None:
    """Create a file that is locked until this process ends. A forked child does not hold the lock."""
    if _fcntl is None:
        return
    new = path.with_suffix(".opened")
    file = os.open(new, os.O_RDWR | os.O_CREAT, 0o600)  # never closed
    _fcntl.lockf(file, _fcntl.LOCK_EX)
    new.replace(path)  # no other process sees it unlocked


def is_free(file: int) -> bool:
    """Say whether nobody locks an open file, given as a file descriptor; False on Windows."""
    if _fcntl is None:
        return False
    try:
        _fcntl.lockf(file, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except OSError:
        return False
    _fcntl.lockf(file, _fcntl.LOCK_UN)
    return True
