"""One run: trained from its start or from where it was interrupted, every row logged, recorded however it ends.

Here training meets the store. A checkpoint is written now and then; the rows that it presupposes are on the disk
before it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from gradlab import modes, store, tasks
from gradlab.engines import ensemble, loop, resuming, tensorflow
from gradlab.engines.cursor import Cursor
from gradlab.engines.resuming import CannotGoOnError, Saved
from gradlab.errors import GradlabError, StoreError
from gradlab.runs.lifecycle import (
    Begin,
    Plan,
    Stop,
    StoppedError,
    Watcher,
    Way,
    begin_of,
    check_rows,
    check_same_start,
    checkpoints_of,
    failure,
    leave,
    log_rows,
    new_record,
    optimizer_of,
    steps_of,
)
from gradlab.store import RunFolder, RunRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.experiment import Experiment
    from gradlab.modes import Mode
    from gradlab.rows import Row


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
            self.watcher.says(f"{self.plan.title}: {text}")

    def stopped(self, where: str, then: str) -> StoppedError:
        """Return what is raised when the wish to stop was heard."""
        command = "the same command without --fresh" if self.plan.fresh else "the same command"
        return StoppedError(f"{self.plan.title} stopped {where}; {command} {then}")


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
    job = _Job(experiment, plan, new_record(experiment, plan), watcher, stop)
    for saved in _saved(job):
        try:
            _train_from(saved, job, begins, others)
        except CannotGoOnError as error:
            job.say(f"cannot go on from step {saved.step if saved else 0}: {error}")
        else:
            return


def _saved(job: _Job) -> Iterator[Saved | None]:
    """Yield the checkpoints that the run could go on from, the newest first, and None: its start."""
    any_there = not job.plan.fresh and bool(job.plan.folder.checkpoints())
    for saved in checkpoints_of(job.plan, job.record, job.say):
        if ensemble.is_stacked(saved.state):
            job.say(f"cannot go on from step {saved.step}: it was trained together with others then")
        else:
            yield saved
    if any_there:
        job.say("trained again from its start")
    yield None


def _train_from(saved: Saved | None, job: _Job, begins: dict[int, Begin], others: list[RunFolder]) -> None:
    """Train the run from there, and leave a record that says how it ended, however it ends."""
    plan, record, process = job.plan, job.record, os.getpid()
    with plan.folder.log(saved.step if saved else 0) as log:  # first of all, for it keeps other processes out
        check_rows(log, saved)
        plan.folder.clear_checkpoints(after=saved.step if saved else 0)
        plan.folder.write(record)
        try:
            if plan.seed not in begins:
                begins[plan.seed] = begin_of(job.experiment, plan)
            start, known = begins[plan.seed]
            check_same_start(start, others)
            record = replace(record, weights=start.weights, first_batch=start.batches[0], quadratic=known)
            plan.folder.write(record)
            logged, seconds = _log_rows(saved, job, start, log)
            log.sync()
            record = replace(record, status="done", rows=logged, rows_sha256=log.sha256, seconds=seconds)
        except (StoreError, StoppedError, CannotGoOnError):
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
            leave(plan.folder, record)
        if record.status == "done":
            plan.folder.clear_checkpoints()


def _log_rows(saved: Saved | None, job: _Job, start: tasks.Start, log: store.RowLog) -> tuple[int, float]:
    """Build the task, train it, log every row; return how many there are and the seconds they took."""
    experiment, plan = job.experiment, job.plan
    task = tasks.build(experiment.task_name, plan.seed, experiment.task_options)
    if saved is None:  # one that goes on is held against the batch that it drew last
        task = tasks.verified(experiment.task_name, plan.seed, task, start)
    task = task.to(experiment.device)
    rows, trained = _rows(saved, experiment, plan.mode, task)
    logged, seconds = (saved.step, saved.seconds) if saved else (0, 0.0)
    if job.watcher:
        job.watcher.begins(plan, steps_of(task, experiment), logged)
    way = Way(log.append, partial(_save, job.record, trained, log) if trained else None, job.stopped)
    return log_rows(rows, way, logged, seconds, experiment.checkpoint_every, job.watcher, job.stop)


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
        return tensorflow.train(task, mode, lr, **ends, threads=experiment.threads), None
    optimizer, scheduler = optimizer_of(experiment, mode, task)
    generators = resuming.Generators(task)
    task = resuming.noted(task, generators)
    trained = resuming.Training(task, optimizer, scheduler, Cursor(), generators)
    if saved:
        resuming.restore(saved.state, trained)
    rows = loop.train(
        task,
        modes.load(mode),
        optimizer,
        **ends,
        clip_norm=experiment.clip_norm,
        scheduler=scheduler,
        cursor=trained.cursor,
    )
    return rows, trained
