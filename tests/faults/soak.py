"""Kill runs at random moments for some time, and check that each ends with the rows of an undisturbed run.

make soak        or        python -m tests.faults.soak [SECONDS]
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path

import torch

from gradlab import runs
from tests.faults.test_resume import NAMES, OPTIMIZERS, chosen, killed, rows_of
from tests.table import MODES


def main() -> int:
    """Kill runs until the time is over, and print a line for each finished run."""
    end = time.monotonic() + (float(sys.argv[1]) if len(sys.argv) > 1 else 600.0)
    seed = int(time.time())
    choose = random.Random(seed)  # noqa: S311 - not a secret
    torch.set_num_threads(1)
    kills = wrong = 0
    while time.monotonic() < end:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            task, mode = choose.choice(NAMES), choose.choice(MODES)
            experiment = chosen(task, [mode], choose.choice(OPTIMIZERS), steps=choose.randrange(50, 1000))
            began = time.monotonic()
            expected = rows_of(runs.run(experiment, Path("undisturbed")))
            lasted = time.monotonic() - began
            times = sum(killed(experiment, Path("runs"), lasted * choose.uniform(0.05, 0.5)) for _ in range(8))
            same = rows_of(runs.run(experiment, Path("runs"))) == expected
            os.chdir("/")
        kills += times
        wrong += not same
        print(f"{task}, {mode}: killed {times} times, {'the same rows' if same else 'OTHER ROWS'}", flush=True)  # noqa: T201
    print(f"{kills} kills, {wrong} runs with other rows (seed {seed})")  # noqa: T201
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
