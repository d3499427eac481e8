"""One run: trained from its start or from where it was interrupted, every row logged, recorded however it ends.

Here training meets the store. A checkpoint is written every half minute and when a wish to stop is heard; the rows
that it presupposes are on the disk before it.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from gradlab import __version__, modes, optimizers, quadratic, resuming, store, tape, tasks, training
from gradlab.errors import (
    DamagedError,
    ExperimentError,
    GradlabError,
    StoreError,
    UnfairTaskError,
    shortened,
    users_frames,
    users_traceback,
)
from gradlab.experiment import Experiment, identity
from gradlab.resuming import Saved
from gradlab.store import RunFolder, RunRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gradlab.modes import Mode
    from gradlab.results import Result
    from gradlab.rows import Row

TELL_EVERY = 0.1  # seconds between two words to a watcher
SPARED = 20  # times what a checkpoint took must pass before the next: they cost 5 % of a run at the most


class Plan(NamedTuple):
    """A run before it is one."""

    mode: Mode
    seed: int
    settings: Mapping[str, Any]
    folder: RunFolder
    done: bool  # trained before, with the same settings
    fresh: bool = False  # to be trained from its start, whatever is there


class Begin(NamedTuple):
    """What all runs of one seed begin with."""

    start: tasks.Start
    quadratic: dict[str, Any] | None  # as it is recorded


@dataclass
class Stop:
    """A wish to stop, heard after each step while `heard` says that steps are under way."""

    asked: bool = False
    heard: bool = False


class StoppedError(Exception):
    """A wish to stop was heard after so many steps of a run; its message says how to go on."""


class Watcher(Protocol):
    """Who is told how far the runs are."""

    def begins(self, plan: Plan, steps: int | None, done: int) -> None:
        """Hear that a run begins, of so many steps where that is known, of which some are done already."""

    def at(self, steps: int) -> None:
        """Hear how many of its steps are done, some ten times a second at most."""

    def says(self, text: str) -> None:
        """Hear what else there is to tell a user of a run."""

    def ends(self, result: Result) -> None:
        """Hear that the run has ended, or was done before."""


class _Job(NamedTuple):
    """What goes with a run through its training."""

    experiment: Experiment
    plan: Plan
    record: RunRecord
    watcher: Watcher | None
    stop: Stop

    def say(self, text: str) -> None:
        """Tell the watcher something of this run."""
        if self.watcher:
            self.watcher.says(f"{self.plan.mode.name} seed {self.plan.seed}: {text}")

    def stopped(self, where: str, then: str) -> StoppedError:
        """Return what is raised when the wish to stop was heard."""
        command = "the same command without --fresh" if self.plan.fresh else "the same command"
        return StoppedError(f"{self.plan.mode.name} seed {self.plan.seed} stopped {where}; {command} {then}")


def train_run(
    experiment: Experiment,
    plan: Plan,
    begins: dict[int, Begin],
    others: list[RunFolder],
    watcher: Watcher | None,
    stop: Stop,
) -> None:
    """Train one run, from its newest checkpoint that checks out or else from its start.

    `begins` holds what was found of each seed, and is filled; `others` are runs done before, which it must be fair to.

    Raises:
        StoppedError: the wish to stop was heard.
        GradlabError: what a user can fix.
    """
    store.make_run(plan.folder)
    record = RunRecord(
        experiment=experiment.name,
        title=experiment.title,
        mode=plan.mode.name,
        seed=plan.seed,
        identity=identity(plan.settings),
        settings=dict(plan.settings),
        status="running",
        versions=versions_of(experiment),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    job = _Job(experiment, plan, record, watcher, stop)
    for saved in _saved(job):
        try:
            _train_from(saved, job, begins, others)
        except resuming.CannotGoOnError as error:
            job.say(f"cannot go on from step {saved.step if saved else 0}: {error}")
        else:
            return


def _saved(job: _Job) -> Iterator[Saved | None]:
    """Yield the checkpoints that the run could go on from, the newest first, and None: its start.

    Raises:
        StoreError: a checkpoint cannot be read for now, which is no reason to do without it.
    """
    files = [] if job.plan.fresh else job.plan.folder.checkpoints()
    whole = job.plan.folder.whole_rows() if files else 0
    for file in files:
        try:
            saved = resuming.unpacked(store.load_checkpoint(file))
            _check_fits(saved, job.record, whole)
        except (DamagedError, resuming.CannotGoOnError) as error:
            job.say(f"cannot go on from {file.name}: {error}")
        except (MemoryError, OSError) as error:
            raise StoreError(f"{file} cannot be read: {shortened(repr(error), 100)}") from None
        else:
            yield saved
    if files:
        job.say("trained again from its start")
    yield None


def _check_fits(saved: Saved, record: RunRecord, whole: int) -> None:
    """Raise CannotGoOnError where the checkpoint is not one of this run, or its log has lost rows."""
    if saved.identity != record.identity:
        raise resuming.CannotGoOnError("it is of another run")
    if saved.versions != record.versions:
        versions = ", ".join(f"{name} {version}" for name, version in saved.versions.items())
        raise resuming.CannotGoOnError(f"it was written with {versions}, on which the rows depend")
    if saved.step > whole:
        raise resuming.CannotGoOnError(f"it needs {saved.step} rows, of which {whole} are there")


def _train_from(saved: Saved | None, job: _Job, begins: dict[int, Begin], others: list[RunFolder]) -> None:
    """Train the run from there, and leave a record that says how it ended, however it ends."""
    plan, record, process = job.plan, job.record, os.getpid()
    with plan.folder.log(saved.step if saved else 0) as log:  # first of all, for it keeps other processes out
        if saved and saved.rows_sha256 != log.sha256:
            raise resuming.CannotGoOnError("the rows before it are not those that were logged")
        plan.folder.clear_checkpoints(after=saved.step if saved else 0)
        plan.folder.write(record)
        try:
            if plan.seed not in begins:
                begins[plan.seed] = _begin(job.experiment, plan)
            start, known = begins[plan.seed]
            _check_same_start(start, others)
            record = replace(record, weights=start.weights, first_batch=start.batches[0], quadratic=known)
            plan.folder.write(record)
            logged, seconds = _log_rows(saved, job, start, log)
            log.sync()
            record = replace(record, status="done", rows=logged, rows_sha256=log.sha256, seconds=seconds)
        except (StoreError, StoppedError, resuming.CannotGoOnError):
            record = replace(record, status="interrupted")
            raise
        except GradlabError as error:
            record = replace(record, status="failed", error=str(error))
            raise
        except (Exception, SystemExit, GeneratorExit) as error:  # the task is a user's: it ends its own run alone
            if job.stop.asked:  # the signal may have gone to processes that the task relies on, a DataLoader's workers
                record = replace(record, status="interrupted")
                raise job.stopped("amid a step", "goes on from its last checkpoint") from None
            record = replace(record, status="failed", error=failure(error, job.experiment))
        except BaseException:
            record = replace(record, status="interrupted")
            raise
        finally:
            if os.getpid() != process:  # a child that the task has forked came back here: the run is its parent's
                os._exit(1)
            _leave(plan.folder, record)
        if record.status == "done":
            plan.folder.clear_checkpoints()


def failure(error: BaseException, experiment: Experiment) -> str:
    """Return what is told of a run that failed by what its task raised: the user's own frames, or else the task."""
    cause = error.__cause__ if isinstance(error.__cause__, StopIteration) else error
    where = "" if users_frames(cause) else f"in training task '{experiment.task_name.name}': "
    return where + users_traceback(cause)


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


def _log_rows(saved: Saved | None, job: _Job, start: tasks.Start, log: store.RowLog) -> tuple[int, float]:
    """Build the task, train it, log every row; return how many there are and the seconds they took."""
    experiment, plan, stop = job.experiment, job.plan, job.stop
    task = tasks.build(experiment.task_name, plan.seed, experiment.task_options)
    if saved is None:  # one that goes on is held against the batch that it drew last
        task = tasks.watched(experiment.task_name, plan.seed, task, start)
    task = task.to(experiment.device)
    rows, trained = _rows(saved, experiment, plan.mode, task)
    logged, seconds = (saved.step, saved.seconds) if saved else (0, 0.0)
    if job.watcher:
        job.watcher.begins(plan, steps_of(task, experiment), logged)
    begin = due = time.monotonic()
    save_at = begin + experiment.checkpoint_every
    stop.heard = True
    try:
        for row in rows:
            log.append(row)
            logged += 1
            if (now := time.monotonic()) < due and not stop.asked:
                continue
            if job.watcher:
                job.watcher.at(logged)
            if trained and (now >= save_at or stop.asked):
                _save(job.record, trained, log, logged, seconds + now - begin)
                save_at = time.monotonic() + max(experiment.checkpoint_every, SPARED * (time.monotonic() - now))
            if stop.asked:
                raise job.stopped(f"after {logged} steps", "goes on from there" if trained else "trains it again")
            due = min(now + TELL_EVERY, save_at)
    finally:
        stop.heard = False
    return logged, seconds + time.monotonic() - begin


def _save(record: RunRecord, trained: resuming.Training, log: store.RowLog, logged: int, seconds: float) -> None:
    """Write a checkpoint, when the rows that it presupposes are on the disk."""
    log.sync()
    state = resuming.snapshot(trained)
    there = Saved(record.identity, record.versions, logged, seconds, log.sha256, state)
    RunFolder(log.file.parent).save_checkpoint(logged, resuming.packed(there))


def _rows(
    saved: Saved | None, experiment: Experiment, mode: Mode, task: tasks.Task
) -> tuple[Iterator[Row], resuming.Training | None]:
    """Return the rows that the experiment's engine will train, and what is to be saved of it, if it can go on."""
    ends: dict[str, int | None] = {"epochs": experiment.epochs, "steps": experiment.steps}
    if experiment.engine == "tensorflow":
        lr = experiment.optimizer_options(mode)["lr"]
        return tape.train(task, mode, lr, **ends, threads=experiment.threads), None
    optimizer, scheduler = optimizer_of(experiment, mode, task)
    generators = resuming.Generators(task)
    task = resuming.noted(task, generators)
    trained = resuming.Training(task, optimizer, scheduler, training.Cursor(), generators)
    if saved:
        resuming.restore(saved.state, trained)
    rows = training.train(
        task,
        modes.load(mode),
        optimizer,
        **ends,
        clip_norm=experiment.clip_norm,
        scheduler=scheduler,
        cursor=trained.cursor,
    )
    return rows, trained


def optimizer_of(
    experiment: Experiment, mode: Mode, task: tasks.Task
) -> tuple[optimizers.Optimizer, optimizers.Scheduler | None]:
    """Return the optimizer of a run, and its schedule if it has one.

    Raises:
        GradlabError: torch refuses an option, or the batches do not tell how many updates there will be.
    """
    optimizer = optimizers.build(
        experiment.optimizer.name, task.model.parameters(), experiment.optimizer_options(mode)
    )
    if not experiment.schedule:
        return optimizer, None
    if (length := training.length_of(task.batches)) is None:
        raise ExperimentError(f"schedule '{experiment.schedule}' needs batches that tell their number by len()")
    updates = training.updates_of(length, mode.every, epochs=experiment.epochs, steps=experiment.steps)
    return optimizer, optimizers.schedule(experiment.schedule, optimizer, updates)


def steps_of(task: tasks.Task, experiment: Experiment) -> int | None:
    """Return how many steps the run will have, where the task tells."""
    if experiment.steps is not None:
        return experiment.steps
    length = training.length_of(task.batches)
    return None if length is None or experiment.epochs is None else length * experiment.epochs


def versions_of(experiment: Experiment) -> dict[str, str]:
    """Return the versions that the rows of a run depend on."""
    import torch

    versions = {"gradlab": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
    if experiment.engine == "tensorflow":
        versions["tensorflow"] = tape.start(experiment.threads).__version__
    return versions
