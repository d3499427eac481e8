"""How many runs are trained at once, and freed memory that stays."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gradlab import modes
from gradlab.engines.ensemble import (
    Member,
    SeedTask,
    StackedTraining,
    tuning,
)
from tests.ensemble.test_traced_step import adam, make

if TYPE_CHECKING:
    from collections.abc import Callable


def measured(seconds: dict[int, float]) -> Callable[[int], float]:
    return lambda size: seconds[size]


def test_the_smallest_chunk_that_is_nearly_the_best_is_taken() -> None:
    seconds = {16: 9.0, 32: 5.0, 64: 3.0, 128: 2.1, 256: 2.0, 512: 2.2, 1024: 3.1, 2048: 1.0}
    size, found = tuning.best_chunk_size(measured(seconds), 5000)
    assert size == 128
    assert list(found) == [16, 32, 64, 128, 256, 512, 1024]  # beyond the cache it is not gone on


@pytest.mark.parametrize(("most", "tried"), [(1, [1]), (16, [16]), (20, [16, 20]), (10**6, list(tuning.SIZES))])
def test_no_chunk_is_larger_than_the_number_of_runs(most: int, tried: list[int]) -> None:
    assert list(tuning.best_chunk_size(lambda size: 1 / size, most)[1]) == tried


def test_a_step_is_timed_for_each_run() -> None:
    def seconds(runs: int) -> float:
        members = [Member(modes.zero_grad())] * runs
        return tuning.seconds_a_run_step(StackedTraining([SeedTask(make(3))], members, adam))

    one, many = seconds(1), seconds(64)
    assert 0 < many < one / 8  # a step of 64 tiny runs takes little longer than one of a single run


FREED = """
import sys
from pathlib import Path
if sys.argv[1] == "kept":
    from gradlab.engines.ensemble.tuning import keep_freed_memory
    assert keep_freed_memory()
import torch
[torch.ones(2**20) for _ in range(16)]
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is the GNU C library that is asked")
def test_memory_that_was_freed_stays_with_the_process() -> None:
    def resident(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FREED, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert resident("kept") - resident("given back") > 32 * 1024  # KiB, of 16 tensors of 4 MiB
