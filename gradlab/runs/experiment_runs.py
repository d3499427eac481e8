"""Runs an experiment: reads finished runs and trains the others."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from gradlab import store
from gradlab.analysis.results import ExperimentResult, check_expectations, result_of
from gradlab.errors import ExperimentError, GradlabError
from gradlab.experiment import Experiment, location_of
from gradlab.runs.evaluations import check_expected_of
from gradlab.runs.job import Job
from gradlab.runs.plan import RunPlan, mode_names, plan_runs
from gradlab.runs.progress import Progress
from gradlab.runs.reuse import retrain_changed
from gradlab.runs.setup import prepare
from gradlab.runs.single_run import train_run
from gradlab.runs.stacked_runs import train_stacks
from gradlab.runs.starts import SeedStarts
from gradlab.runs.stopping import Stop
from gradlab.wording import either

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from gradlab.analysis.results import Result


def run(
    experiment: Experiment,
    out: Path = store.RUNS,
    *,
    fresh: bool = False,
    progress: Progress | None = None,
    stop: Stop | None = None,
    models: dict[tuple[str, int], nn.Module] | None = None,
) -> ExperimentResult:
    """Run all modes and seeds of `experiment` in a folder under `out`.

    Finished runs are reused unless `fresh`. Interrupted runs resume from their last checkpoint. If the task raises,
    only that run fails. Runs of a function object are reused only if they would still start alike.

    If `models` is a dict, it receives the trained models by mode and seed, except those of TensorFlow.

    Raises:
        StoppedError: a stop was requested. All rows and a checkpoint are on the disk.
        GradlabError: an error that the user can fix, in the folder, task, task options, optimizer or device.
    """
    if experiment.vary:
        place, keys = location_of(experiment, "vary"), ", ".join(experiment.vary)
        command = either("`gradlab sweep`", "gradlab.sweep")
        raise ExperimentError(f"{place}experiment '{experiment.name}' varies {keys}: use {command}")
    folder, progress = store.experiment_folder(out, experiment.name), progress or Progress()
    plans = plan_runs(experiment, folder, fresh=fresh)
    if experiment.task_name.given is not None and any(plan.folder.record_file.exists() for plan in plans):
        _prepare(experiment, folder, progress)
        plans = retrain_changed(experiment, plans)
    missing = [plan for plan in plans if not plan.done]
    check_expected_of(experiment, (plan for plan in plans if plan.done))
    if missing:
        _prepare(experiment, folder, progress)
    else:
        folder.save_request([plan.folder for plan in plans], mode_names(experiment), match_lr=experiment.match_lr)
    job = Job(experiment, missing, SeedStarts(experiment, plans), progress, stop or Stop(), models=models)
    job.progress.on_plans(plans)
    results: dict[Path, Result] = {}

    def end(plan: RunPlan) -> None:
        result = results[plan.folder.path] = result_of(plan.folder, cached=plan.done)
        job.progress.on_end(result)

    if experiment.engine == "ensemble":  # first all stacks, then the runs of the plain loop
        for plan in train_stacks(job):
            end(plan)
    for plan in plans:
        if plan.folder.path in results:
            continue
        job.stop.raise_between_runs()
        if plan.done:
            plan.folder.remove_stale_checkpoints()
        else:
            train_run(job.subset([plan]))
        end(plan)
    found = [results[plan.folder.path] for plan in plans]
    expectations = list(check_expectations(experiment.expect, found))
    return ExperimentResult(experiment.name, experiment.title, folder.path, found, expectations)


def _prepare(experiment: Experiment, folder: store.ExperimentFolder, progress: Progress) -> None:
    """Check that the experiment can be trained; if not, remove its folder if it is empty."""
    if "torch" not in sys.modules:
        progress.on_prepare("importing torch")
    try:
        prepare(experiment)
    except GradlabError:
        folder.drop_if_empty()
        raise
