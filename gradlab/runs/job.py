"""A job: runs that are trained together, one by the plain loop or several as a stack; logged and recorded.

Every step is logged. A checkpoint is saved every half minute, and when a stop is requested. However the training ends,
the record of every run says how.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import tasks
from gradlab.engines.resuming import CannotResumeError, Checkpoint
from gradlab.errors import GradlabError, StoreError, shortened, users_frames, users_traceback
from gradlab.runs.checkpointing import check_rows
from gradlab.runs.plan import RunPlan, new_record
from gradlab.runs.progress import REPORT_EVERY, Progress
from gradlab.runs.stopping import Stop, StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gradlab.experiment import Experiment
    from gradlab.rows import Row
    from gradlab.runs.starts import SeedStarts
    from gradlab.store import RowLog, RunRecord

    StartEngine = Callable[["Job", Sequence[Checkpoint]], "TrainingSteps"]

CHECKPOINT_SPACING = 20  # times what a checkpoint took must pass before the next: they cost 5 % of a run at most
TASK_ERRORS = (Exception, SystemExit, GeneratorExit)  # what a user's task may raise; it ends its own run only
_NO_TASK_ERRORS = (StoreError, StoppedError, CannotResumeError)


class TrainingSteps(NamedTuple):
    """The training of a job's runs, as an engine offers it.

    Attributes:
        steps: trains one step after the other; yields the row of the run, or what `rows_of` takes.
        total: the number of steps, where it is known.
        states: returns what each run needs to resume after the last step; None where the engine cannot resume.
        rows_of: returns the rows of a step, one for each run; None where the step is the row of the only run.
    """

    steps: Iterator[Any]
    total: int | None
    states: Callable[[], Iterable[dict[str, Any]]] | None
    rows_of: Callable[[Any], Iterable[Row]] | None = None


@dataclass(frozen=True)
class Job:
    """Runs that are trained together."""

    experiment: Experiment
    plans: list[RunPlan]
    starts: SeedStarts
    progress: Progress
    stop: Stop
    stacked: bool = False

    @cached_property
    def records(self) -> list[RunRecord]:
        """The records of the runs, which are about to train."""
        return [new_record(self.experiment, plan) for plan in self.plans]

    @property
    def title(self) -> str:
        """The name of the job in messages."""
        return self.plans[0].title if len(self.plans) == 1 else f"{len(self.plans)} runs at once"

    def subset(self, plans: list[RunPlan], *, stacked: bool = False) -> Job:
        """Return the job of some of the runs."""
        return replace(self, plans=plans, stacked=stacked)

    def notify(self, text: str) -> None:
        """Report a message about the runs."""
        self.progress.on_message(f"{self.title}: {text}")

    def build_task(self, seed: int, *, resumed: bool) -> tasks.Task:
        """Return the task of a seed on the experiment's device; where it starts anew, its start is checked."""
        experiment = self.experiment
        task = tasks.build(experiment.task_name, seed, experiment.task_options)
        if not resumed:  # where it resumes, its last batch is compared instead
            task = tasks.verified(experiment.task_name, seed, task, self.starts.found[seed].start)
        return task.to(experiment.device)

    def train(self, checkpoints: Sequence[Checkpoint], start_engine: StartEngine) -> None:
        """Train the runs from these checkpoints, one of each, or from their start; record how they end.

        What the task raises fails the run of a single job, and is not raised. A stacked job raises it.

        Args:
            checkpoints: of one step; empty for the start.
            start_engine: returns the steps that the engine will train.

        Raises:
            CannotResumeError: the runs cannot resume from these checkpoints.
            StoppedError: a stop was requested.
            GradlabError: what a user can fix.
        """
        step, process = checkpoints[0].step if checkpoints else 0, os.getpid()
        records, error = self.records, None
        with ExitStack() as opened:
            # Opened before anything is changed: the logs keep other processes out.
            logs = [opened.enter_context(plan.folder.log(step)) for plan in self.plans]
            for log, checkpoint in zip(logs, checkpoints, strict=False):
                check_rows(log, checkpoint)
            for plan in self.plans:
                plan.folder.clear_checkpoints(after=step)
            try:
                records = [self._started(*run) for run in zip(self.plans, records, strict=True)]
                records = self._log_steps(start_engine(self, checkpoints), checkpoints, records, logs)
            except BaseException as raised:
                records, error = self._ended_by(raised, records)
            finally:
                if os.getpid() != process:  # a child that the task forked came back here: the runs are its parent's
                    os._exit(1)
            for plan, record in zip(self.plans, records, strict=True):
                _leave_record(plan, record, error)
            left_to_loop = self.stacked and isinstance(error, TASK_ERRORS) and not isinstance(error, _NO_TASK_ERRORS)
            for plan, record in zip(self.plans, records, strict=True):
                if record.status == "done" or left_to_loop:  # while the log keeps other processes out
                    plan.folder.clear_checkpoints()
            if error:
                raise error

    def _started(self, plan: RunPlan, record: RunRecord) -> RunRecord:
        """Return the record with the start of the run, once it is written."""
        if not self.stacked:  # a stack knows its starts; to find one takes a while
            plan.folder.write(record)
        start, known = self.starts.of(plan)
        self.starts.check_finished_runs(plan)
        record = replace(record, weights=start.weights, first_batch=start.batches[0], quadratic=known)
        plan.folder.write(record)
        return record

    def _ended_by(
        self, error: BaseException, records: list[RunRecord]
    ) -> tuple[list[RunRecord], BaseException | None]:
        """Return the records of runs that an error ended, and what to raise."""
        interrupted = [replace(record, status="interrupted") for record in records]
        if isinstance(error, _NO_TASK_ERRORS) or not isinstance(error, TASK_ERRORS):
            return interrupted, error
        fixable = isinstance(error, GradlabError)
        if self.stop.requested and (self.stacked or not fixable):
            # The signal may have reached processes that the task relies on, such as a DataLoader's workers.
            its = "the" if self.stacked else "its"
            return interrupted, self._stopped("amid a step", f"goes on from {its} last checkpoint")
        if self.stacked:
            return interrupted, error
        text = str(error) if fixable else failure(error, self.experiment)
        return [replace(record, status="failed", error=text) for record in records], error if fixable else None

    def _log_steps(
        self, training: TrainingSteps, checkpoints: Sequence[Checkpoint], records: list[RunRecord], logs: list[RowLog]
    ) -> list[RunRecord]:
        """Train and log all steps; return the records of the runs, which are done.

        Raises:
            StoppedError: a stop was requested.
        """
        steps, total, states, rows_of = training
        logged = checkpoints[0].step if checkpoints else 0
        seconds = max((each.seconds for each in checkpoints), default=0.0)
        append = logs[0].append if rows_of is None else partial(_append, logs, rows_of)
        stop, every = self.stop, self.experiment.checkpoint_every
        self.progress.on_start(self.title, len(self.plans), total, done_steps=logged)
        begun = due = time.monotonic()
        save_at = begun + every
        stop.checked_after_steps = True
        try:
            for step in steps:
                append(step)
                logged += 1
                if (now := time.monotonic()) < due and not stop.requested:
                    continue
                self.progress.on_progress(logged)
                if states and (now >= save_at or stop.requested):
                    self._save_checkpoints(states(), logs, logged, seconds + now - begun)
                    save_at = time.monotonic() + max(every, CHECKPOINT_SPACING * (time.monotonic() - now))
                if stop.requested:
                    raise self._stopped(f"after {logged} steps", "goes on from there" if states else "trains it again")
                due = min(now + REPORT_EVERY, save_at)
            seconds += time.monotonic() - begun
        finally:
            stop.checked_after_steps = False
        for log in logs:
            log.sync()
        done = [replace(record, status="done", rows=logged, seconds=seconds) for record in records]
        return [replace(record, rows_sha256=log.sha256) for record, log in zip(done, logs, strict=True)]

    def _save_checkpoints(
        self, states: Iterable[dict[str, Any]], logs: list[RowLog], step: int, seconds: float
    ) -> None:
        """Save a checkpoint of each run, once the rows before it are on the disk."""
        for log in logs:
            log.sync()
        for plan, record, log, state in zip(self.plans, self.records, logs, states, strict=True):
            checkpoint = Checkpoint(record.identity, record.versions, step, seconds, log.sha256, state)
            plan.folder.save_checkpoint(step, checkpoint.to_bytes())

    def _stopped(self, where: str, then: str) -> StoppedError:
        command = "the same command without --fresh" if self.plans[0].fresh else "the same command"
        return StoppedError(f"{self.title} stopped {where}; {command} {then}")


def _append(logs: list[RowLog], rows_of: Callable[[Any], Iterable[Row]], step: object) -> None:
    """Log the rows of one step of a stack."""
    for log, row in zip(logs, rows_of(step), strict=True):
        log.append(row)


def _leave_record(plan: RunPlan, record: RunRecord, error: BaseException | None) -> None:
    """Write the record of how a run ended; where that fails, what ended the run is still reported."""
    try:
        plan.folder.write(record)
    except StoreError as fault:
        if error is None:
            more = f"\nbefore that the run failed: {shortened(record.error.splitlines()[-1])}" if record.error else ""
            raise StoreError(f"{fault}{more}") from None


def failure(error: BaseException, experiment: Experiment) -> str:
    """Return the error to record of a run whose task raised: the user's own frames, or else the task."""
    cause = error.__cause__ if isinstance(error.__cause__, StopIteration) else error
    where = "" if users_frames(cause) else f"in training task '{experiment.task_name.name}': "
    return where + users_traceback(cause)
