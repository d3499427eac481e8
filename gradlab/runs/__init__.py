"""The runs of an experiment: what is done already is kept, the rest is trained, logged and checked.

Here training meets the store: everything below computes or writes, everything above shows.
"""

from gradlab.runs.experiment_runs import plan, prepare, run
from gradlab.runs.lifecycle import (
    TELL_EVERY,
    Plan,
    Stop,
    StoppedError,
    Watcher,
    failure,
    optimizer_of,
    scheduler_of,
    steps_of,
    versions_of,
)

__all__ = [
    "TELL_EVERY",
    "Plan",
    "Stop",
    "StoppedError",
    "Watcher",
    "failure",
    "optimizer_of",
    "plan",
    "prepare",
    "run",
    "scheduler_of",
    "steps_of",
    "versions_of",
]
