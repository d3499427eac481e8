"""What every run needs while it is under way, whichever engine trains it.

A plan, a record, what runs of a seed begin with, checkpoints that check out, the loop that logs rows and hears a wish
to stop. A checkpoint is written every half minute and when that wish is heard.
"""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from gradlab import __version__, optimizers, store, tasks
from gradlab.analysis import quadratic
from gradlab.engines import resuming, tensorflow
from gradlab.engines.accumulation import update_count
from gradlab.engines.resuming import CannotGoOnError, Saved
from gradlab.errors import (
    DamagedError,
    ExperimentError,
    StoreError,
    UnfairTaskError,
    shortened,
    users_frames,
    users_traceback,
)
from gradlab.experiment import Experiment, identity
from gradlab.store import RunFolder, RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from gradlab.analysis.results import Result
    from gradlab.modes import Mode
    from gradlab.optimizers import Optimizer, Scheduler

TELL_EVERY = 0.1  # seconds between two words to a watcher
MOST_MODES = 100  # in the record of each run
SPARED = 20  # times what a checkpoint took must pass before the next: they cost 5 % of a run at the most


class Plan(NamedTuple):
    """A run before it is one."""

    mode: Mode
    seed: int
    settings: Mapping[str, Any]
    folder: RunFolder
    done: bool  # trained before, with the same settings
    fresh: bool = False  # to be trained from its start, whatever is there

    @property
    def title(self) -> str:
        """What a user is told that it is."""
        return f"{self.mode.name} seed {self.seed}"


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

    def begins(self, plan: Plan, steps: int | None, done: int, runs: int = 1) -> None:
        """Hear that a run begins, of so many steps where that is known, of which some are done already.

        Where several are trained at once, `plan` is the first of these `runs`.
        """

    def at(self, steps: int) -> None:
        """Hear how many of its steps are done, some ten times a second at most."""

    def says(self, text: str) -> None:
        """Hear what else there is to tell a user of a run."""

    def ends(self, result: Result) -> None:
        """Hear that the run has ended, or was done before."""


def new_record(experiment: Experiment, plan: Plan) -> RunRecord:
    """Return the record of a run that begins or goes on."""
    return RunRecord(
        experiment=experiment.name,
        title=experiment.title,
        mode=plan.mode.name,
        seed=plan.seed,
        identity=identity(plan.settings),
        settings=dict(plan.settings),
        status="running",
        versions=versions_of(experiment),
        started=store.now(),
        modes=mode_names(experiment),
        match_lr=experiment.match_lr,
    )


def mode_names(experiment: Experiment) -> list[str]:
    """Return the modes in the order to show them in; of hundreds the first, for each run records them."""
    return [mode.name for mode in experiment.parsed_modes[:MOST_MODES]]


def begin_of(experiment: Experiment, plan: Plan) -> Begin:
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


def check_same_start(start: tasks.Start, others: Iterable[RunFolder]) -> None:
    """Raise UnfairTaskError where a run done before started elsewhere, as under another version of torch."""
    for other in others:
        record = other.read()
        if (record.weights, record.first_batch) != (start.weights, start.batches[0]):
            versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
            raise UnfairTaskError(
                f"{other.path} (done before, with {versions}) started from other weights or batches\n"
                "it cannot be compared with what would be trained now; --fresh trains all again"
            )


def checkpoints_of(plan: Plan, record: RunRecord, say: Callable[[str], object]) -> Iterator[Saved]:
    """Yield the checkpoints that the run could go on from, the newest first; say which it could not.

    Raises:
        StoreError: a checkpoint cannot be read for now, which is no reason to do without it.
    """
    files = [] if plan.fresh else plan.folder.checkpoints()
    whole = plan.folder.whole_rows() if files else 0
    for file in files:
        try:
            saved = resuming.unpacked(store.load_checkpoint(file))
            _check_fits(saved, record, whole)
        except (DamagedError, CannotGoOnError) as error:
            say(f"cannot go on from {file.name}: {error}")
        except (MemoryError, OSError) as error:
            raise StoreError(f"{file} cannot be read: {shortened(repr(error), 100)}") from None
        else:
            yield saved


def _check_fits(saved: Saved, record: RunRecord, whole: int) -> None:
    """Raise CannotGoOnError where the checkpoint is not one of this run, or its log has lost rows."""
    if saved.identity != record.identity:
        raise CannotGoOnError("it is of another run")
    if saved.versions != record.versions:
        versions = ", ".join(f"{name} {version}" for name, version in saved.versions.items())
        raise CannotGoOnError(f"it was written with {versions}, on which the rows depend")
    if saved.step > whole:
        raise CannotGoOnError(f"it needs {saved.step} rows, of which {whole} are there")


def check_rows(log: store.RowLog, saved: Saved | None) -> None:
    """Raise CannotGoOnError where the rows before the checkpoint are not those that were logged."""
    if saved and saved.rows_sha256 != log.sha256:
        raise CannotGoOnError("the rows before it are not those that were logged")


class Way(NamedTuple):
    """How rows are kept while they are trained.

    Attributes:
        append: logs what is yielded of a step.
        save: writes a checkpoint after so many steps and seconds; None where the engine has none.
        stopped: returns what is raised when the wish to stop was heard: where, and what the same command then does.
    """

    append: Callable[[Any], object]
    save: Callable[[int, float], object] | None
    stopped: Callable[[str, str], StoppedError]


def log_rows(
    rows: Iterator[Any], way: Way, done: int, seconds: float, every: float, watcher: Watcher | None, stop: Stop
) -> tuple[int, float]:
    """Log all rows, after `done` of them and so many seconds before; return how many there are, and the seconds.

    Args:
        rows: what is yielded of each step.
        way: how they are kept.
        done: rows before these.
        seconds: of training before these.
        every: seconds between two checkpoints.
        watcher: is told how far it is.
        stop: is heard after each step.

    Raises:
        StoppedError: the wish to stop was heard.
    """
    logged = done
    begin = due = time.monotonic()
    save_at = begin + every
    stop.heard = True
    try:
        for row in rows:
            way.append(row)
            logged += 1
            if (now := time.monotonic()) < due and not stop.asked:
                continue
            if watcher:
                watcher.at(logged)
            if way.save and (now >= save_at or stop.asked):
                way.save(logged, seconds + now - begin)
                save_at = time.monotonic() + max(every, SPARED * (time.monotonic() - now))
            if stop.asked:
                raise way.stopped(f"after {logged} steps", "goes on from there" if way.save else "trains it again")
            due = min(now + TELL_EVERY, save_at)
    finally:
        stop.heard = False
    return logged, seconds + time.monotonic() - begin


def leave(folder: RunFolder, record: RunRecord) -> None:
    """Leave the record of how a run ended; where it cannot be written, what ended the run is told all the same."""
    under_way = sys.exc_info()[1]
    try:
        folder.write(record)
    except StoreError as error:
        if under_way is None:
            more = f"\nbefore that the run failed: {shortened(record.error.splitlines()[-1])}" if record.error else ""
            raise StoreError(f"{error}{more}") from None


def failure(error: BaseException, experiment: Experiment) -> str:
    """Return what is told of a run that failed by what its task raised: the user's own frames, or else the task."""
    cause = error.__cause__ if isinstance(error.__cause__, StopIteration) else error
    where = "" if users_frames(cause) else f"in training task '{experiment.task_name.name}': "
    return where + users_traceback(cause)


def optimizer_of(experiment: Experiment, mode: Mode, task: tasks.Task) -> tuple[Optimizer, Scheduler | None]:
    """Return the optimizer of a run, and its schedule if it has one.

    Raises:
        GradlabError: torch refuses an option, or the batches do not tell how many updates there will be.
    """
    parameters = task.model.parameters()
    optimizer = optimizers.build(experiment.optimizer.name, parameters, experiment.optimizer_options(mode))
    return optimizer, scheduler_of(experiment, mode, task, optimizer)


def scheduler_of(experiment: Experiment, mode: Mode, task: tasks.Task, optimizer: Optimizer) -> Scheduler | None:
    """Return the experiment's schedule of this optimizer, if there is one.

    Raises:
        ExperimentError: the batches do not tell their number, on which it depends.
    """
    if not experiment.schedule:
        return None
    if (length := tasks.epoch_length(task.batches)) is None:
        raise ExperimentError(f"schedule '{experiment.schedule}' needs batches that tell their number by len()")
    updates = update_count(length, mode.every, epochs=experiment.epochs, steps=experiment.steps)
    return optimizers.schedule(experiment.schedule, optimizer, updates)


def steps_of(task: tasks.Task, experiment: Experiment) -> int | None:
    """Return how many steps a run of the task will have, where that tells."""
    if experiment.steps is not None:
        return experiment.steps
    length = tasks.epoch_length(task.batches)
    return None if length is None or experiment.epochs is None else length * experiment.epochs


def versions_of(experiment: Experiment) -> dict[str, str]:
    """Return the versions that the rows of a run depend on."""
    import torch

    versions = {"gradlab": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
    if experiment.engine == "tensorflow":
        versions["tensorflow"] = tensorflow.start(experiment.threads).__version__
    return versions
