"""The runs of an experiment: keeps finished ones; trains, logs and records the others.

This package connects the training engines with the store. The layers above it only show results.
"""

from gradlab.runs.experiment_runs import run
from gradlab.runs.job import failure
from gradlab.runs.plan import RunPlan, plan_runs, versions_of
from gradlab.runs.progress import REPORT_EVERY, Progress
from gradlab.runs.reuse import start_text
from gradlab.runs.setup import optimizer_of, prepare, scheduler_of, steps_of
from gradlab.runs.stopping import Stop, StoppedError

__all__ = [
    "REPORT_EVERY",
    "Progress",
    "RunPlan",
    "Stop",
    "StoppedError",
    "failure",
    "optimizer_of",
    "plan_runs",
    "prepare",
    "run",
    "scheduler_of",
    "start_text",
    "steps_of",
    "versions_of",
]
