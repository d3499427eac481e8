"""Tuning to the machine: measure how many runs to train at once, and keep freed memory in the process."""

from __future__ import annotations

import ctypes
import sys
import time
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from gradlab.engines.ensemble.loop import train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradlab.engines.ensemble.loop import StackedTraining

SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
# A size is good enough if its time is at most this multiple of the best. Larger sizes only use more memory and leave
# fewer chunks for the other cores.
NEARLY = 1.1
LEAST_STEPS, LEAST_SECONDS = 5, 0.05  # of a measurement
PAST = 1.5  # stop trying larger sizes if the time exceeds this multiple of the best

# of mallopt(3), malloc.h of the GNU C library
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # bytes: the library's maximum
_TRIM = 2**30  # bytes that may stay free at the end of the heap


def best_chunk_size(
    seconds_of: Callable[[int], float], most: int, sizes: Sequence[int] = SIZES
) -> tuple[int, dict[int, float]]:
    """Return how many runs to train at once, and the measured seconds per run and step by size.

    The result is the smallest size whose time is within a factor of `NEARLY` of the best.

    Args:
        seconds_of: takes a number of runs and returns the seconds per run and step if they train at once.
        most: total number of runs.
        sizes: sizes to try, ascending.
    """
    found: dict[int, float] = {}
    for size in [*(size for size in sizes if size < most), min(most, max(sizes))]:
        found[size] = seconds_of(size)
        if found[size] > PAST * min(found.values()):
            break
    least = min(found.values())
    return next(size for size, seconds in found.items() if seconds <= NEARLY * least), found


def seconds_a_run_step(training: StackedTraining) -> float:
    """Return the CPU seconds per run and step. This advances the training by some steps.

    The first two steps do not count: they allocate memory and may compile.
    """
    steps = train(training, epochs=10**9)
    for _ in islice(steps, 2):
        pass
    begin, done = time.process_time(), 0
    for _ in steps:
        done += 1
        if done >= LEAST_STEPS and time.process_time() - begin > LEAST_SECONDS:
            break
    return (time.process_time() - begin) / done / len(training.stack.members)


@lru_cache(maxsize=1)
def keep_freed_memory() -> bool:
    """Make this process keep freed memory; return whether that worked. Only the GNU C library supports it.

    By default, the library returns large blocks to the system at once, and the system clears every page of the next
    block. This takes a third of the time of a stacked step.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)) and bool(mallopt(_TRIM_THRESHOLD, _TRIM))
