"""A job: one run in the plain loop, or several runs in a stack.

It logs every step and saves a checkpoint every 30 seconds and when a stop is requested. The record of every run states
how the training ended.
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
from gradlab.runs.checkpointing import check_evaluations, check_rows
from gradlab.runs.plan import RunPlan, new_record
from gradlab.runs.progress import REPORT_EVERY, Progress
from gradlab.runs.stopping import Stop, StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import nn

    from gradlab.experiment import Experiment
    from gradlab.rows import Evaluation, Row
    from gradlab.runs.starts import SeedStarts
    from gradlab.store import EvaluationLog, RowLog, RunRecord

    StartEngine = Callable[["Job", Sequence[Checkpoint]], "TrainingSteps"]

CHECKPOINT_SPACING = 20  # times the duration of the last checkpoint, until the next: so they cost at most 5 % of a run
TASK_ERRORS = (Exception, SystemExit, GeneratorExit)  # from a user's task: they end only its own run
_NO_TASK_ERRORS = (StoreError, StoppedError, CannotResumeError)


class TrainingSteps(NamedTuple):
    """The training of a job by one engine.

    Attributes:
        steps: trains one step per item. Yields the row of a single run, or the input of `rows_of`.
        total: the number of steps, or None if unknown.
        states: returns the state of each run after the last step, for a checkpoint; None if the engine cannot resume.
        rows_of: returns the rows of a step, one for each run; None for a single run.
        send_evaluations: takes the function that logs an evaluation of the run with a number, and calls it between
            steps; None if the runs are not evaluated.
        training_set_losses: returns the mean loss of each run over the training batches, after the last step; None for
            an unknown one.
    """

    steps: Iterator[Any]
    total: int | None
    states: Callable[[], Iterable[dict[str, Any]]] | None
    rows_of: Callable[[Any], Iterable[Row]] | None = None
    send_evaluations: Callable[[Callable[[int, Evaluation], object]], object] | None = None
    training_set_losses: Callable[[], Sequence[float | None]] | None = None


class _Logs(NamedTuple):
    """The open logs of a job's runs, in their order; those of evaluations are empty if the runs are not evaluated."""

    rows: list[RowLog]
    evaluations: list[EvaluationLog]

    def sync(self) -> None:
        """Write all lines to the disk."""
        for log in (*self.rows, *self.evaluations):
            log.sync()

    def log_evaluation(self, run: int, evaluation: Evaluation) -> None:
        """Log an evaluation of the run with this number."""
        self.evaluations[run].append(evaluation)

    def sha256(self, run: int) -> tuple[str, str]:
        """Return the SHA-256 of the rows of a run and of its evaluations, "" if it is not evaluated."""
        return self.rows[run].sha256, self.evaluations[run].sha256 if self.evaluations else ""


@dataclass(frozen=True)
class Job:
    """Runs that are trained together."""

    experiment: Experiment
    plans: list[RunPlan]
    starts: SeedStarts
    progress: Progress
    stop: Stop
    stacked: bool = False
    models: dict[tuple[str, int], nn.Module] | None = None  # filled with trained models by mode and seed, if a dict

    @cached_property
    def records(self) -> list[RunRecord]:
        """The records of the runs at their start."""
        return [new_record(self.experiment, plan) for plan in self.plans]

    @property
    def title(self) -> str:
        """The name of the job in messages."""
        return self.plans[0].title if len(self.plans) == 1 else f"{len(self.plans)} stacked runs"

    def subset(self, plans: list[RunPlan], *, stacked: bool = False) -> Job:
        """Return a job with some of the runs."""
        return replace(self, plans=plans, stacked=stacked)

    def notify(self, text: str) -> None:
        """Report a message about the runs."""
        self.progress.on_message(f"{self.title}: {text}")

    def build_task(self, seed: int, *, resumed: bool) -> tasks.Task:
        """Return the task of a seed on the experiment's device; check its start unless it is resumed."""
        experiment = self.experiment
        task = tasks.build(experiment.task_name, seed, experiment.task_options)
        if not resumed:  # if it is resumed, its last batch is checked instead
            task = tasks.verified(experiment.task_name, seed, task, self.starts.found[seed].start)
        return task.to(experiment.device)

    def train_from_first(self, points: Iterable[Sequence[Checkpoint]], start_engine: StartEngine) -> None:
        """Train from the first of these points that the runs can resume from; see `train`."""
        for checkpoints in points:
            try:
                self.train(checkpoints, start_engine)
            except CannotResumeError as error:
                self.notify(f"cannot resume from step {checkpoints[0].step if checkpoints else 0}: {error}")
            else:
                return

    def train(self, checkpoints: Sequence[Checkpoint], start_engine: StartEngine) -> None:
        """Train the runs from these checkpoints or from their start, and record how they end.

        If the task raises, a single run is recorded as failed and nothing is raised. A stacked job raises the error.

        Args:
            checkpoints: one per run, all of the same step; empty to train from the start.
            start_engine: returns the training steps of the engine.

        Raises:
            CannotResumeError: the runs cannot resume from these checkpoints.
            StoppedError: a stop was requested.
            GradlabError: an error that the user can fix.
        """
        step, process = checkpoints[0].step if checkpoints else 0, os.getpid()
        records, error = self.records, None
        with ExitStack() as opened:
            # Open the logs before any change: they lock out other processes.
            logs = [opened.enter_context(plan.folder.log(step)) for plan in self.plans]
            for log, checkpoint in zip(logs, checkpoints, strict=False):
                check_rows(log, checkpoint)
            for plan in self.plans:
                plan.folder.clear_checkpoints(after=step)
            try:
                records = [self._started(*run) for run in zip(self.plans, records, strict=True)]
                training = start_engine(self, checkpoints)
                evaluations = [opened.enter_context(each) for each in self._evaluation_logs(training, checkpoints)]
                records = self._log_steps(training, checkpoints, records, _Logs(logs, evaluations))
            except BaseException as raised:
                records, error = self._ended_by(raised, records)
            finally:
                if os.getpid() != process:  # a child forked by the task returned here: the runs belong to its parent
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
        """Write and return the record with the start of the run."""
        if not self.stacked:  # in a stack the start is known; otherwise finding it takes a while
            plan.folder.write(record)
        start, known = self.starts.of(plan)
        self.starts.check_finished_runs(plan)
        record = replace(record, weights=start.weights, first_batch=start.batches[0], quadratic=known)
        plan.folder.write(record)
        return record

    def _ended_by(
        self, error: BaseException, records: list[RunRecord]
    ) -> tuple[list[RunRecord], BaseException | None]:
        """Return the records of runs that ended with an error, and the error to raise."""
        interrupted = [replace(record, status="interrupted") for record in records]
        if isinstance(error, _NO_TASK_ERRORS) or not isinstance(error, TASK_ERRORS):
            return interrupted, error
        fixable = isinstance(error, GradlabError)
        if self.stop.requested and (self.stacked or not fixable):
            # The signal may also have reached processes that the task needs, such as a DataLoader's workers.
            its = "the" if self.stacked else "its"
            return interrupted, self._stopped("during a step", f"continues from {its} last checkpoint")
        if self.stacked:
            return interrupted, error
        text = str(error) if fixable else failure(error, self.experiment)
        return [replace(record, status="failed", error=text) for record in records], error if fixable else None

    def _evaluation_logs(self, training: TrainingSteps, checkpoints: Sequence[Checkpoint]) -> Iterator[EvaluationLog]:
        """Open and yield the log of evaluations of each run; remove those of runs that are not evaluated any more.

        Raises:
            CannotResumeError: the evaluations before a checkpoint are not those that were logged.
        """
        for nth, plan in enumerate(self.plans):
            if training.send_evaluations is None:
                plan.folder.remove_evaluations()
                continue
            log = plan.folder.evaluation_log(checkpoints[nth].step if checkpoints else 0)
            yield log
            if checkpoints:
                check_evaluations(log, checkpoints[nth])

    def _log_steps(
        self, training: TrainingSteps, checkpoints: Sequence[Checkpoint], records: list[RunRecord], logs: _Logs
    ) -> list[RunRecord]:
        """Train and log all steps; return the records of the finished runs.

        Raises:
            StoppedError: a stop was requested.
        """
        steps, total, states, rows_of, send_evaluations, _ = training
        logged = checkpoints[0].step if checkpoints else 0
        seconds = max((each.seconds for each in checkpoints), default=0.0)
        append = logs.rows[0].append if rows_of is None else partial(_append, logs.rows, rows_of)
        if send_evaluations:
            send_evaluations(logs.log_evaluation)
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
                    raise self._stopped(f"after {logged} steps", "continues from there" if states else "retrains it")
                due = min(now + REPORT_EVERY, save_at)
            seconds += time.monotonic() - begun
        finally:
            stop.checked_after_steps = False
        logs.sync()
        done = [replace(record, status="done", rows=logged, seconds=seconds) for record in records]
        return _with_results(done, training, logs)

    def _save_checkpoints(self, states: Iterable[dict[str, Any]], logs: _Logs, step: int, seconds: float) -> None:
        """Write the logs to the disk, then save a checkpoint of each run."""
        logs.sync()
        for nth, (plan, record, state) in enumerate(zip(self.plans, self.records, states, strict=True)):
            rows_sha256, evaluations_sha256 = logs.sha256(nth)
            saved = Checkpoint(record.identity, record.versions, step, seconds, rows_sha256, state, evaluations_sha256)
            plan.folder.save_checkpoint(step, saved.to_bytes())

    def _stopped(self, where: str, then: str) -> StoppedError:
        command = "the same command without --fresh" if self.plans[0].fresh else "the same command"
        return StoppedError(f"{self.title} stopped {where}; {command} {then}")


def _with_results(records: list[RunRecord], training: TrainingSteps, logs: _Logs) -> list[RunRecord]:
    """Return the records of finished runs with what their logs hold, and with the loss over the training batches."""
    losses = training.training_set_losses() if training.training_set_losses else [None] * len(records)
    found = []
    for nth, (record, loss) in enumerate(zip(records, losses, strict=True)):
        rows_sha256, evaluations_sha256 = logs.sha256(nth)
        count = logs.evaluations[nth].count if logs.evaluations else None
        found.append(
            replace(
                record,
                rows_sha256=rows_sha256,
                evaluations=count,
                evaluations_sha256=evaluations_sha256,
                training_set_loss=loss,
            )
        )
    return found


def _append(logs: list[RowLog], rows_of: Callable[[Any], Iterable[Row]], step: object) -> None:
    """Log one step of a stack."""
    for log, row in zip(logs, rows_of(step), strict=True):
        log.append(row)


def _leave_record(plan: RunPlan, record: RunRecord, error: BaseException | None) -> None:
    """Write the final record of a run; if that fails, still report the error that ended the run."""
    try:
        plan.folder.write(record)
    except StoreError as fault:
        if error is None:
            more = f"\nbefore that the run failed: {shortened(record.error.splitlines()[-1])}" if record.error else ""
            raise StoreError(f"{fault}{more}") from None


def failure(error: BaseException, experiment: Experiment) -> str:
    """Return the error text to record if a task raised: the traceback in the user's code, or else the task's name."""
    cause = error.__cause__ if isinstance(error.__cause__, StopIteration) else error
    where = "" if users_frames(cause) else f"in training task '{experiment.task_name.name}': "
    return where + users_traceback(cause)
