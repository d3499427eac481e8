"""Reuse of runs of a function object, whose source may not show all that it reads.

A run is reused only if the function still gives the same weights, first batch and first loss.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradlab import modes, tasks
from gradlab.engines import loop
from gradlab.errors import GradlabError
from gradlab.runs.job import TASK_ERRORS
from gradlab.runs.setup import optimizer_of

if TYPE_CHECKING:
    from gradlab.experiment import Experiment
    from gradlab.modes import Mode
    from gradlab.runs.plan import RunPlan

TOLERANCE = 1e-3  # of a first loss that a stack or TensorFlow computed, relative


def retrain_changed(experiment: Experiment, plans: list[RunPlan]) -> list[RunPlan]:
    """Return the plans; runs that would start differently now are to be trained from the start.

    Raises:
        GradlabError: the task cannot be built, or two calls with one seed differ.
    """
    starts: dict[int, tasks.Start] = {}
    losses: dict[tuple[int, int], float] = {}
    return [plan if _starts_alike(experiment, plan, starts, losses) else _to_retrain(plan) for plan in plans]


def _to_retrain(plan: RunPlan) -> RunPlan:
    return plan._replace(done=False, fresh=True)


def _starts_alike(
    experiment: Experiment, plan: RunPlan, starts: dict[int, tasks.Start], losses: dict[tuple[int, int], float]
) -> bool:
    """Return whether the run has no rows yet, or rows that begin as the function would now."""
    try:
        record, rows = plan.folder.read(), plan.folder.rows().rows
    except GradlabError:
        return not plan.done
    if plan.fresh or not rows:
        return True
    if plan.seed not in starts:
        try:
            starts[plan.seed] = tasks.start_of(experiment.task_name, plan.seed, experiment.task_options)
        except GradlabError:
            raise
        except TASK_ERRORS:  # training reports it
            return False
    start = starts[plan.seed]
    if (record.weights, record.first_batch) != (start.weights, start.batches[0]):
        return False
    key = plan.seed, plan.mode.every  # a window may be drawn before its first loss is computed
    if key not in losses:
        losses[key] = _first_loss(experiment, plan.mode, plan.seed)
    both_nan = math.isnan(losses[key]) and math.isnan(rows[0].loss)
    tolerance = 0.0 if experiment.engine == "loop" else TOLERANCE
    return both_nan or math.isclose(losses[key], rows[0].loss, rel_tol=tolerance)


def start_text(experiment: Experiment, seed: int) -> str:
    """Return the hashes of the initial weights and the first batch, and the first loss; "" if the task raises.

    Raises:
        GradlabError: an error that the user can fix.
    """
    try:
        start = tasks.start_of(experiment.task_name, seed, experiment.task_options)
    except GradlabError:
        raise
    except TASK_ERRORS:  # training reports it
        return ""
    loss = _first_loss(experiment, experiment.parsed_modes[0], seed)
    return f"{start.weights} {start.batches[0]} {loss!r}"


def _first_loss(experiment: Experiment, mode: Mode, seed: int) -> float:
    """Return the loss of the first step by the plain loop; NaN if the task raises, which training reports.

    Raises:
        GradlabError: an error that the user can fix.
    """
    try:
        task = tasks.build(experiment.task_name, seed, experiment.task_options).to(experiment.device)
        optimizer, _ = optimizer_of(experiment, mode, task)
        rows = loop.train(task, modes.load(mode), optimizer, epochs=experiment.epochs, steps=experiment.steps)
        return next(rows).loss
    except GradlabError:
        raise
    except TASK_ERRORS:
        return math.nan
