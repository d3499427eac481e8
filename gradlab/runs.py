"""The runs of an experiment: what is done already is kept, the rest is trained, logged and checked.

Here training meets the store: everything below computes or writes, everything above shows.
"""

from __future__ import annotations

import platform
import sys
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from gradlab import __version__, modes, optimizers, quadratic, store, tape, tasks, training
from gradlab.errors import (
    ExperimentError,
    GradlabError,
    StoreError,
    UnfairTaskError,
    shortened,
    users_frames,
    users_traceback,
)
from gradlab.experiment import Experiment, identity
from gradlab.results import Outcome, Result, checked, result_of
from gradlab.store import RunFolder, RunRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from gradlab.modes import Mode
    from gradlab.rows import Row

TELL_EVERY = 0.1  # seconds between two words to a watcher


class Plan(NamedTuple):
    """A run before it is one."""

    mode: Mode
    seed: int
    settings: Mapping[str, Any]
    folder: RunFolder
    done: bool  # trained before, with the same settings


class Begin(NamedTuple):
    """What all runs of one seed begin with."""

    start: tasks.Start
    quadratic: dict[str, Any] | None  # as it is recorded


class Watcher(Protocol):
    """Who is told how far the runs are."""

    def begins(self, plan: Plan, steps: int | None) -> None:
        """Hear that a run begins, of so many steps where that is known."""

    def at(self, steps: int) -> None:
        """Hear how many of its steps are done, some ten times a second at most."""

    def ends(self, result: Result) -> None:
        """Hear that the run has ended, or was done before."""


def plan(experiment: Experiment, folder: store.ExperimentFolder, *, fresh: bool = False) -> list[Plan]:
    """Return the runs of the experiment, modes first, and say which are done."""
    plans = []
    for mode in experiment.parsed_modes:
        for seed in experiment.seeds:
            settings = experiment.settings(mode, seed)
            run = folder.run(mode.name, seed, identity(settings))
            plans.append(Plan(mode, seed, settings, run, done=not fresh and _is_done(run, settings)))
    return plans


def run(
    experiment: Experiment, out: Path = store.RUNS, *, fresh: bool = False, watcher: Watcher | None = None
) -> Outcome:
    """Run all modes and seeds of `experiment` under `out`; those done before are read, not trained, unless `fresh`.

    A run whose task raises fails and lets the others go on.

    Raises:
        GradlabError: what a user can fix: the folder, the task, its options, the optimizer, the device.
    """
    folder = store.experiment_folder(out, experiment.name)
    plans = plan(experiment, folder, fresh=fresh)
    if not all(each.done for each in plans):
        try:
            _prepare(experiment)
        except GradlabError:
            folder.drop_if_empty()
            raise
    folder.note_last(experiment.title, [*_alike(experiment, folder, plans), *(each.folder for each in plans)])
    begins: dict[int, Begin] = {}
    results = []
    for each in plans:
        if not each.done:
            others = [other.folder for other in plans if other.done and other.seed == each.seed]
            _train(experiment, each, begins, others, watcher)
        result = result_of(each.folder, cached=each.done)
        results.append(result)
        if watcher:
            watcher.ends(result)
    return Outcome(experiment.name, experiment.title, folder.path, results, list(checked(experiment.expect, results)))


def _alike(experiment: Experiment, folder: store.ExperimentFolder, plans: list[Plan]) -> list[RunFolder]:
    """Return the runs noted before that differ from the planned ones in mode or seed alone: one picture shows all."""
    planned = {each.folder.path for each in plans}
    found = []
    with suppress(GradlabError):  # a damaged record, or a mode of the user's that is gone: the picture does without
        for run in folder.last():
            record = run.read()
            if run.path not in planned:
                mode = modes.parse(record.mode, experiment.folder)
                found += [run] if record.settings == experiment.settings(mode, record.seed) else []
    return found


def _prepare(experiment: Experiment) -> None:
    """Find out before the first run whether the engine, the task, the device and the optimizer can be had."""
    if experiment.engine == "tensorflow":
        tape.start(experiment.threads)
    import torch

    torch.set_num_threads(experiment.threads)  # results depend on it: part of the settings
    tasks.check_options(experiment.task_name, experiment.task_options)
    for mode in experiment.parsed_modes:
        modes.load(mode)
    try:
        torch.empty(0, device=experiment.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ExperimentError(f"device '{experiment.device}' is not to be had here: {reason}") from None
    optimizers.build(experiment.optimizer.name, [torch.nn.Parameter(torch.zeros(1, 1))], experiment.optimizer.options)


def _train(
    experiment: Experiment,
    plan: Plan,
    begins: dict[int, Begin],
    others: list[RunFolder],
    watcher: Watcher | None,
) -> None:
    """Train one run, and leave a record that says how it ended, however it ends."""
    record = RunRecord(
        experiment=experiment.name,
        title=experiment.title,
        mode=plan.mode.name,
        seed=plan.seed,
        identity=identity(plan.settings),
        settings=dict(plan.settings),
        status="running",
        versions=_versions(experiment),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    store.make_run(plan.folder)
    with plan.folder.log() as log:  # first of all, for it keeps others out and leaves no row of an earlier training
        plan.folder.write(record)
        try:
            if plan.seed not in begins:
                begins[plan.seed] = _begin(experiment, plan)
            start, known = begins[plan.seed]
            _check_same_start(start, others)
            record = replace(record, weights=start.weights, first_batch=start.batches[0], quadratic=known)
            plan.folder.write(record)
            logged, seconds = _log_rows(experiment, plan, start, log, watcher)
            log.sync()
            record = replace(record, status="done", rows=logged, rows_sha256=log.sha256, seconds=seconds)
        except GradlabError as error:
            record = replace(record, status="failed", error=str(error))
            raise
        except (Exception, SystemExit) as error:  # the task is a user's: it ends its own run, not the others
            where = "" if users_frames(error) else f"in training task '{experiment.task_name.name}': "
            record = replace(record, status="failed", error=where + users_traceback(error))
        except BaseException:
            record = replace(record, status="interrupted")
            raise
        finally:
            _leave(plan.folder, record)


def _leave(folder: RunFolder, record: RunRecord) -> None:
    """Leave the record of how a run ended; where it cannot be written, what ended the run is told all the same."""
    under_way = sys.exc_info()[1]
    try:
        folder.write(record)
    except StoreError as error:
        if under_way is None:
            more = f"\nbefore that the run failed: {shortened(record.error.splitlines()[-1])}" if record.error else ""
            raise StoreError(f"{error}{more}") from None


def _begin(experiment: Experiment, plan: Plan) -> Begin:
    """Return what the runs of the plan's seed begin with.

    Where theory may hold, the loss is looked at in a task built for that alone: looking draws batches and random
    numbers, and the build before a training sets all generators back.
    """
    start = tasks.start_of(experiment.task_name, plan.seed, experiment.task_options)
    if quadratic.obstacle(plan.settings):
        return Begin(start, None)
    if len(start.batches) > 1:
        return Begin(start, {})
    try:
        built = tasks.build(experiment.task_name, plan.seed, experiment.task_options)
    except Exception:  # the task's function is a user's: what it raises is told when it is called for training
        return Begin(start, {})
    found = quadratic.measured(built)
    return Begin(start, found._asdict() if found else {})


def _check_same_start(start: tasks.Start, others: list[RunFolder]) -> None:
    """Raise UnfairTaskError where a run done before started elsewhere, as under another version of torch."""
    for other in others:
        record = other.read()
        if (record.weights, record.first_batch) != (start.weights, start.batches[0]):
            versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
            raise UnfairTaskError(
                f"{other.path} (done before, with {versions}) started from other weights or batches\n"
                "it cannot be compared with what would be trained now; --fresh trains all again"
            )


def _log_rows(
    experiment: Experiment, plan: Plan, start: tasks.Start, log: store.RowLog, watcher: Watcher | None
) -> tuple[int, float]:
    """Build the task, train it, log every row; return how many there are and the seconds they took."""
    built = tasks.build(experiment.task_name, plan.seed, experiment.task_options)
    task = tasks.watched(experiment.task_name, plan.seed, built, start).to(experiment.device)
    rows = _rows(experiment, plan.mode, task)
    logged = 0
    if watcher:
        watcher.begins(plan, _steps(task, experiment))
    begin = due = time.monotonic()
    for row in rows:
        log.append(row)
        logged += 1
        if watcher and (now := time.monotonic()) >= due:
            watcher.at(logged)
            due = now + TELL_EVERY
    return logged, time.monotonic() - begin


def _rows(experiment: Experiment, mode: Mode, task: tasks.Task) -> Iterator[Row]:
    """Return the rows that the experiment's engine will train."""
    ends: dict[str, int | None] = {"epochs": experiment.epochs, "steps": experiment.steps}
    if experiment.engine == "tensorflow":
        lr = experiment.optimizer_options(mode)["lr"]
        return tape.train(task, mode, lr, **ends, threads=experiment.threads)
    options = experiment.optimizer_options(mode)
    optimizer = optimizers.build(experiment.optimizer.name, task.model.parameters(), options)
    scheduler = None
    if experiment.schedule:
        if (length := training.length_of(task.batches)) is None:
            raise ExperimentError(f"schedule '{experiment.schedule}' needs batches that tell their number by len()")
        updates = training.updates_of(length, mode.every, **ends)
        scheduler = optimizers.schedule(experiment.schedule, optimizer, updates)
    return training.train(
        task, modes.load(mode), optimizer, **ends, clip_norm=experiment.clip_norm, scheduler=scheduler
    )


def _steps(task: tasks.Task, experiment: Experiment) -> int | None:
    """Return how many steps the run will have, where the task tells."""
    if experiment.steps is not None:
        return experiment.steps
    length = training.length_of(task.batches)
    return None if length is None or experiment.epochs is None else length * experiment.epochs


def _is_done(run: RunFolder, settings: Mapping[str, Any]) -> bool:
    """Say whether the run is there whole: its record says done, and no row is missing."""
    try:
        record = run.read()
        return record.status == "done" and record.settings == settings and not run.lacks(record)
    except GradlabError:
        return False


def _versions(experiment: Experiment) -> dict[str, str]:
    import torch

    versions = {"gradlab": __version__, "torch": torch.__version__, "python": platform.python_version()}
    if experiment.engine == "tensorflow":
        versions["tensorflow"] = tape.start(experiment.threads).__version__
    return versions
