"""Tuning to the machine: how many runs are trained at once, by measuring; and freed memory that stays."""

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
# Times the best: more runs at once than that takes gain nothing, and take memory and the other cores' work.
NEARLY = 1.1
LEAST_STEPS, LEAST_SECONDS = 5, 0.05  # of a measurement
PAST = 1.5  # times the best: beyond it larger sizes are not tried

# of mallopt(3), malloc.h of the GNU C library
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # bytes: the library takes no more
_TRIM = 2**30  # bytes that may lie free at the end of the heap


def best_chunk_size(
    seconds_of: Callable[[int], float], most: int, sizes: Sequence[int] = SIZES
) -> tuple[int, dict[int, float]]:
    """Return how many runs to train at once, and the seconds a run-step that were measured by size.

    That is the smallest number whose run-step takes nearly as little time as the best one's.

    Args:
        seconds_of: measures the seconds a run-step takes where so many runs are trained at once.
        most: runs there are.
        sizes: to be tried, ascending.
    """
    found: dict[int, float] = {}
    for size in [*(size for size in sizes if size < most), min(most, max(sizes))]:
        found[size] = seconds_of(size)
        if found[size] > PAST * min(found.values()):
            break
    least = min(found.values())
    return next(size for size, seconds in found.items() if seconds <= NEARLY * least), found


def seconds_a_run_step(training: StackedTraining) -> float:
    """Return the seconds of processor time that a step takes for each run; the training has gone on by some steps.

    The first steps, in which memory is taken and a step is compiled, do not count.
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
