"""Freed memory that stays with the process: a stacked step allocates megabytes, anew at every step."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

# of mallopt(3), malloc.h of the GNU C library
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # bytes: the library takes no more
_TRIM = 2**30  # bytes that may lie free at the end of the heap


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Let this process keep what it frees, and say whether that could be asked for: of the GNU C library only.

    It gives large blocks back to the system at once, which then fills each page of the next one with zeros: a third of
    the time of a stacked step.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)) and bool(mallopt(_TRIM_THRESHOLD, _TRIM))
