"""Runs trained as one stack, each with a folder, a log, a record and checkpoints of its own, as if it were alone.

They go on from the newest step of which each of them has a checkpoint. What cannot be stacked is left to the plain
loop, with the reason.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import optimizers, store, tasks
from gradlab.engines import ensemble, resuming
from gradlab.engines.resuming import CannotGoOnError, Saved
from gradlab.errors import StoreError, shortened
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
    leave,
    log_rows,
    new_record,
    scheduler_of,
    steps_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gradlab.experiment import Experiment
    from gradlab.optimizers import Optimizer
    from gradlab.store import RowLog, RunFolder, RunRecord

AT_ONCE = 128  # runs of one stack: by then the cost of calling torch is spread thin, and memory and open files are few


_ENDING = (StoreError, StoppedError, CannotGoOnError)  # what ends a stack and is no fault of its task
_OF_A_TASK = (Exception, SystemExit, GeneratorExit)


class Left(NamedTuple):
    """Runs that are left to the plain loop, and why; "" where they have begun there."""

    plans: list[Plan]
    reason: str


class _Team(NamedTuple):
    """What goes with the runs of one stack through their training."""

    experiment: Experiment
    plans: list[Plan]
    records: list[RunRecord]
    watcher: Watcher | None
    stop: Stop
    steps: ensemble.TracedSteps | None = None  # where their step may be traced

    @property
    def title(self) -> str:
        return self.plans[0].title if len(self.plans) == 1 else f"{len(self.plans)} runs at once"

    @property
    def seeds(self) -> list[int]:
        return list(dict.fromkeys(plan.seed for plan in self.plans))

    def say(self, text: str) -> None:
        if self.watcher:
            self.watcher.says(f"{self.title}: {text}")

    def stopped(self, where: str, then: str) -> StoppedError:
        command = "the same command without --fresh" if self.plans[0].fresh else "the same command"
        return StoppedError(f"{self.title} stopped {where}; {command} {then}")

    def build(self, parameters: Sequence[Any]) -> Optimizer:
        options = self.experiment.optimizer_options(self.plans[0].mode)
        return optimizers.build(self.experiment.optimizer.name, parameters, options)


class Together:
    """Trains runs as stacks; what was found of the tasks of some seeds is found once.

    Attributes:
        experiment: theirs.
        begins: what was found of each seed, which is filled.
        stop: the wish to stop.
    """

    def __init__(self, experiment: Experiment, begins: dict[int, Begin], watcher: Watcher | None, stop: Stop) -> None:
        self.experiment, self.begins = experiment, begins
        self.stop = stop
        self._watcher = watcher
        self._stackability: dict[tuple[int, ...], ensemble.Stackability] = {}
        self._steps = ensemble.TracedSteps()

    def say(self, text: str) -> None:
        """Tell the watcher something of all runs."""
        if self._watcher:
            self._watcher.says(text)

    def stacks(self, plans: Iterable[Plan]) -> list[list[Plan]]:
        """Return the runs in stacks: alike in when they step and in the optimizer's options, by seed, then mode."""
        found: dict[object, list[Plan]] = {}
        for plan in plans:
            mode, options = plan.mode, self.experiment.optimizer_options(plan.mode)
            key = (mode.own, mode.every, mode.mean, mode.by_batch, tuple(map(str, options.items())))
            found.setdefault(key, []).append(plan)
        stacks = []
        for alike in found.values():
            by_seed = sorted(alike, key=lambda plan: self.experiment.seeds.index(plan.seed))
            stacks += [by_seed[at : at + AT_ONCE] for at in range(0, len(by_seed), AT_ONCE)]
        return stacks

    def train(self, plans: list[Plan], others: Callable[[Plan], list[RunFolder]]) -> Left:
        """Train one stack, and return which of its runs are left to the plain loop.

        Args:
            plans: the stack.
            others: returns the runs done before that a run must be fair to.

        Raises:
            StoppedError: the wish to stop was heard.
            GradlabError: what a user can fix.
        """
        for plan in plans:
            store.make_run(plan.folder)
        records = [new_record(self.experiment, plan) for plan in plans]
        team = _Team(self.experiment, plans, records, self._watcher, self.stop)
        checkpoints = [list(checkpoints_of(*run, team.say)) for run in zip(plans, team.records, strict=True)]
        stacked = [all(ensemble.is_stacked(saved.state) for saved in each) for each in checkpoints]
        alone = list(compress(plans, (not each for each in stacked)))  # these have begun in the plain loop
        team = team._replace(plans=list(compress(plans, stacked)), records=list(compress(team.records, stacked)))
        if not team.plans:
            return Left(alone, "")
        if reason := self._obstacle(team):
            return Left(plans, reason)
        if self._stackability[tuple(team.seeds)].traceable:
            team = team._replace(steps=self._steps)
        for saved in _common(team, list(compress(checkpoints, stacked))):
            try:
                reason = self._train_from(saved, team, others)
            except CannotGoOnError as error:
                team.say(f"cannot go on from step {saved[0].step if saved else 0}: {error}")
            else:
                break
        return Left([*alone, *team.plans] if reason else alone, reason)

    def _obstacle(self, team: _Team) -> str:
        """Say why the runs cannot be stacked; find what those of each seed begin with."""
        if reason := ensemble.unstackable_reason(team.plans[0].mode, team.build):
            return reason
        experiment, seeds = self.experiment, tuple(team.seeds)
        try:
            for plan in team.plans:
                if plan.seed not in self.begins:
                    self.begins[plan.seed] = begin_of(experiment, plan)
            if seeds not in self._stackability:
                built = [tasks.build(experiment.task_name, seed, experiment.task_options) for seed in seeds]
                self._stackability[seeds] = ensemble.stackability_of([task.to(experiment.device) for task in built])
        except _OF_A_TASK as error:  # the plain loop tells what it is
            return f"the task raises {type(error).__name__}"
        return self._stackability[seeds].reason_under(team.plans[0].mode)

    def _train_from(self, saved: list[Saved] | None, team: _Team, others: Callable[[Plan], list[RunFolder]]) -> str:
        """Train the runs from there, leave a record of each, and return why they are for the plain loop, if so."""
        step = saved[0].step if saved else 0
        with ExitStack() as opened:
            # first of all, for they keep other processes out
            logs = [opened.enter_context(plan.folder.log(step)) for plan in team.plans]
            for log, begun in zip(logs, saved or [], strict=False):
                check_rows(log, begun)
            for plan in team.plans:
                plan.folder.clear_checkpoints(after=step)
            records, reason = self._ended(saved, team, others, logs)
            for plan, record in zip(team.plans, records, strict=True):
                leave(plan.folder, record)
                plan.folder.clear_checkpoints()
        return reason

    def _ended(
        self, saved: list[Saved] | None, team: _Team, others: Callable[[Plan], list[RunFolder]], logs: list[RowLog]
    ) -> tuple[list[RunRecord], str]:
        """Train the runs, and return the records of how they ended, and why they are for the plain loop."""
        records, process = team.records, os.getpid()
        try:
            records = [self._begun(*run, others) for run in zip(team.plans, records, strict=True)]
            logged, seconds = _log_rows(saved, team, self.begins, logs)
            for log in logs:
                log.sync()
        except BaseException as error:
            if os.getpid() != process:  # a child that the task has forked came back here
                os._exit(1)
            records = [replace(record, status="interrupted") for record in records]
            of_a_task = isinstance(error, _OF_A_TASK) and not isinstance(error, _ENDING)
            if of_a_task and not team.stop.asked:  # whatever it is, the plain loop can tell
                return records, _told(error)
            for plan, record in zip(team.plans, records, strict=True):
                leave(plan.folder, record)
            if of_a_task:  # the signal may have gone to processes that the task relies on
                raise team.stopped("amid a step", "goes on from the last checkpoint") from None
            raise
        if os.getpid() != process:
            os._exit(1)
        done = partial(replace, status="done", rows=logged, seconds=seconds)
        return [done(record, rows_sha256=log.sha256) for record, log in zip(records, logs, strict=True)], ""

    def _begun(self, plan: Plan, record: RunRecord, others: Callable[[Plan], list[RunFolder]]) -> RunRecord:
        """Return the record of a run that begins, when it is written."""
        start, known = self.begins[plan.seed]
        check_same_start(start, others(plan))
        record = replace(record, weights=start.weights, first_batch=start.batches[0], quadratic=known)
        plan.folder.write(record)
        return record


def _common(team: _Team, checkpoints: list[list[Saved]]) -> Iterator[list[Saved] | None]:
    """Yield the checkpoints of the steps of which each run has one, the newest first, and None: their start.

    Where the process was killed between two of the files, some runs have a newer one; it is not used.
    """
    by_step = [{saved.step: saved for saved in each} for each in checkpoints]
    for step in sorted(set.intersection(*map(set, by_step)), reverse=True):
        yield [each[step] for each in by_step]
    if any(by_step):
        team.say("trained again from the start: there is no step from which each of them can go on")
    yield None


def _log_rows(
    saved: list[Saved] | None, team: _Team, begins: dict[int, Begin], logs: list[RowLog]
) -> tuple[int, float]:
    """Build the tasks, train the stack, log every row of each run; return how many a run has and the seconds."""
    experiment, seeds, mode = team.experiment, team.seeds, team.plans[0].mode
    seed_tasks = []
    for seed in seeds:
        task = tasks.build(experiment.task_name, seed, experiment.task_options)
        if saved is None:
            task = tasks.verified(experiment.task_name, seed, task, begins[seed].start)
        seed_tasks.append(
            ensemble.SeedTask(task.to(experiment.device))
        )  # before the next build seeds all generators anew
    first = seed_tasks[0].task
    training = ensemble.StackedTraining(
        seed_tasks,
        [ensemble.Member(plan.mode, seeds.index(plan.seed)) for plan in team.plans],
        team.build,
        lambda optimizer: scheduler_of(experiment, mode, first, optimizer),
        team.steps,
    )
    if saved:
        ensemble.restore([each.state for each in saved], training)
    rows = ensemble.train(training, epochs=experiment.epochs, steps=experiment.steps, clip_norm=experiment.clip_norm)
    done, seconds = (saved[0].step, max(each.seconds for each in saved)) if saved else (0, 0.0)
    if team.watcher:
        team.watcher.begins(team.plans[0], steps_of(first, experiment), done, len(team.plans))
    way = Way(partial(_append, logs), partial(_save, team, training, logs), team.stopped)
    return log_rows(rows, way, done, seconds, experiment.checkpoint_every, team.watcher, team.stop)


def _append(logs: list[RowLog], losses: ensemble.StackedStep) -> None:
    """Log the rows of one step."""
    for member, log in enumerate(logs):
        log.append(losses.row(member))


def _save(team: _Team, training: ensemble.StackedTraining, logs: list[RowLog], logged: int, seconds: float) -> None:
    """Write a checkpoint of each run, when the rows that these presuppose are on the disk."""
    for log in logs:
        log.sync()
    for plan, record, log, state in zip(team.plans, team.records, logs, ensemble.snapshots(training), strict=True):
        there = Saved(record.identity, record.versions, logged, seconds, log.sha256, state)
        plan.folder.save_checkpoint(logged, resuming.packed(there))


def _told(error: BaseException) -> str:
    """Say in a line why a stack could not be trained to its end."""
    kind = "" if isinstance(error, ensemble.CannotStackError) else f"{type(error).__name__}: "
    return kind + shortened(str(error).partition("\n")[0], 100)
