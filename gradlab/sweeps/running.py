"""A sweep: what is there is kept, the cells that are missing are trained, and each is recorded as it ends."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from gradlab import runs, store
from gradlab.analysis import sharpness
from gradlab.analysis.quadratic import why_no_theory
from gradlab.errors import GradlabError, StoreError
from gradlab.experiment import identity
from gradlab.store import SweepRecord
from gradlab.sweeps import stacked
from gradlab.sweeps.cells import LOOP_CHUNK, cell_of, cells_of
from gradlab.sweeps.cluster import Cluster
from gradlab.sweeps.workers import Workers, here

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gradlab.experiment import Experiment
    from gradlab.store import BlockLog, Results, SweepFolder
    from gradlab.sweeps.grid import Grid
    from gradlab.sweeps.workers import Executor


class Watcher(Protocol):
    """Who is told how far a sweep is."""

    def begins(self, total: int, done: int) -> None:
        """Hear how many runs there are, and how many were there before."""

    def at(self, steps: int, done: float) -> None:
        """Hear how many steps of all runs have been trained, and how many runs are done, with those under way."""

    def says(self, text: str) -> None:
        """Hear what else there is to tell a user."""


class Outcome(NamedTuple):
    """What a sweep did.

    Attributes:
        folder: of the sweep.
        record: what it is, and how it stands.
        cached: how many of its runs were there before.
        ended: how many runs ended with which verdict, or failed.
        errors: what ended runs that failed, and how many each.
        by_loop: why runs were trained by the plain loop where another engine was to, and how many each.
        lost: how many runs could not be trained, for the processes that were at them ended; and how these did.
    """

    folder: SweepFolder
    record: SweepRecord
    cached: int
    ended: dict[str, int]
    errors: dict[str, int]
    by_loop: dict[str, int]
    lost: int = 0
    how: str = ""

    @property
    def failed(self) -> int:
        """How many runs failed or could not be trained."""
        return self.record.failed + self.lost


def run(
    grid: Grid,
    out: Path = store.RUNS,
    *,
    fresh: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    dask: str | None = None,
    chunk: int | None = None,
    watcher: Watcher | None = None,
    stop: runs.Stop | None = None,
) -> Outcome:
    """Train the runs of a grid that are not there yet, cell by cell, and record them in one folder under `out`.

    Args:
        grid: all that decides the runs.
        out: the folder of runs.
        fresh: train again what is there.
        workers: processes to train in, 1 for this one; default as many as there are cores.
        executor: where to train instead.
        dask: the address of a Dask scheduler, on whose workers to train instead.
        chunk: runs of a cell at most, of a sweep that begins; default what suits the engine.
        watcher: who is told how far it is.
        stop: a wish to stop.

    Raises:
        StoppedError: `stop` was asked for; whole cells are kept, and the same goes on from there.
        GradlabError: what a user can fix: the folder, the task, its options, the optimizer, the device.
    """
    settings = settings_of(grid)
    name = grid.experiment["name"]
    folder = store.SweepFolder(out / name / f"sweep-{identity(settings)}")
    if not fresh and (there := _complete(folder, grid)) is not None:
        return there
    with ExitStack() as stack:
        if dask is not None:  # first of all: a cluster that is not there is told of before anything is measured
            executor = stack.enter_context(Cluster(dask))
        folder.make()
        log = stack.enter_context(folder.log(fresh=fresh))
        try:
            record = _recorded(folder, grid, settings, chunk, watcher, fresh=fresh)
            grid = grid._replace(compiled=record.compiled)
            return _Sweep(grid, folder, record, log, watcher, stop or runs.Stop(), fresh).run(workers, executor)
        except BaseException:
            folder.drop_if_empty()
            raise


def settings_of(grid: Grid) -> dict[str, Any]:
    """Return all that decides the runs of a grid, in canonical form, as identity and record have it."""
    first = grid.experiment_at(next(iter(grid.points())))
    mode = first.parsed_modes[0]
    settings = first.settings(mode, grid.seeds[0])
    for key in ("mode", "mode_source", "seed", "engine"):
        settings.pop(key, None)
    for axis in grid.axes:
        *path, last = axis.path
        section = settings
        for part in path:
            section = section.get(part, {})
        section.pop(last, None)
    sources = [each.get("mode_source") for each in (first.settings(mode, 0) for mode in first.parsed_modes)]
    return {
        **settings,
        **({"match_lr": True} if first.match_lr else {}),
        **({"mode_sources": sources} if any(sources) else {}),
        "vary": [[axis.key, list(axis.values)] for axis in grid.axes],
        "modes": list(grid.modes),
        "seeds": list(grid.seeds),
        "engine": grid.engine,
    }


def _complete(folder: SweepFolder, grid: Grid) -> Outcome | None:
    """Return the outcome of a sweep that is there whole, or None."""
    try:
        record = folder.read()
        results = folder.results()
    except GradlabError:
        return None
    if record.status != "done" or record.sharpness is None or len(results.by_run()) != grid.runs:
        return None
    return _outcome(folder, record, results, grid.runs)


def _recorded(
    folder: SweepFolder,
    grid: Grid,
    settings: dict[str, Any],
    chunk: int | None,
    watcher: Watcher | None,
    *,
    fresh: bool,
) -> SweepRecord:
    """Return the record to go on with: that of the sweep if it was begun, with its cells, or a new one."""
    if not fresh and folder.record_file.exists():
        with suppress(StoreError):  # damaged: then all is trained again
            before = folder.read()
            if before.settings == settings:
                return replace(before, status="running")
    plan = stacked.Plan(chunk) if chunk else _planned(grid, watcher)
    return SweepRecord(
        experiment=grid.experiment["name"],
        title=grid.experiment["title"],
        identity=identity(settings),
        settings=settings,
        axes=[axis._asdict() | {"values": list(axis.values)} for axis in grid.axes],
        modes=list(grid.modes),
        seeds=list(grid.seeds),
        chunk=plan.chunk,
        compiled=plan.compiled,
        engine=grid.engine,
        runs=grid.runs,
        status="running",
        threads=grid.experiment["threads"],
        started=store.now(),
    )


def _planned(grid: Grid, watcher: Watcher | None) -> stacked.Plan:
    """Return how many runs are trained at once, and whether their step is compiled: measured for engine ensemble."""
    if grid.engine != "ensemble":
        return stacked.Plan(LOOP_CHUNK)
    alike = max(cells_of(grid, grid.runs), key=len)
    runs.prepare(grid.experiment_at(grid.run(alike[0]).values))
    try:
        with redirect_stdout(sys.stderr):  # what a user's task prints is talk
            plan = stacked.planned(alike, partial(cell_of, grid), grid)
    except GradlabError:
        raise
    except (Exception, SystemExit, GeneratorExit):  # it cannot be stacked, or fails: each cell will tell why
        return stacked.Plan(LOOP_CHUNK)
    if plan.said and watcher:
        watcher.says(f"the step is not compiled, which would have paid: {plan.said}")
    return plan


class _Sweep(NamedTuple):
    """A sweep that is under way."""

    grid: Grid
    folder: SweepFolder
    record: SweepRecord
    log: BlockLog
    watcher: Watcher | None
    stop: runs.Stop
    fresh: bool

    def run(self, workers: int | None, executor: Executor | None) -> Outcome:
        """Train what is missing."""
        results = self.folder.results()
        for message in results.damaged:
            self.say(f"{message}; its runs are trained again")
        there = results.by_run()
        cells = [cell for cell in cells_of(self.grid, self.record.chunk) if not all(run in there for run in cell)]
        cached = self.grid.runs - sum(map(len, cells))
        if not cells:
            record = self._with_sharpness(self.standing("done", results))
            return _outcome(self.folder, record, results, cached)
        with ExitStack() as stack:
            if executor is None:
                count = min(workers or self._cores(), len(cells))
                executor = stack.enter_context(Workers(count, self.grid)) if count > 1 else here
            return self._trained(cells, executor, cached)

    def _trained(self, cells: Sequence[tuple[int, ...]], executor: Executor, cached: int) -> Outcome:
        sweep = self._prepared(cached)
        progress = _Progress(cells, cached, self.watcher)
        self.folder.write(sweep.record)
        status = "interrupted"
        lost, how = 0, ""
        self.stop.heard = True
        try:
            for ended in executor(self.grid, cells, progress.tell, self.stop):
                if ended.block is None:
                    lost, how = lost + len(cells[ended.nth]), ended.error
                else:
                    self.log.append(ended.block)
                    progress.ends(ended.nth, sum(ended.block.steps))
            status = "interrupted" if lost else "done"
        except runs.StoppedError:
            command = "the same command without --fresh" if self.fresh else "the same command"
            done = cached + progress.done
            raise runs.StoppedError(
                f"stopped after {done:,} of {self.grid.runs:,} runs; {command} goes on from there"
            ) from None
        finally:
            self.stop.heard = False
            self.log.sync()
            results = self.folder.results()
            record = sweep.standing(status, results, progress)
        if status == "done":
            record = self._with_sharpness(record)
        return _outcome(self.folder, record, results, cached)._replace(lost=lost, how=how)

    def _prepared(self, cached: int) -> _Sweep:
        """Return the sweep with the versions it is trained by, once all its points can be trained.

        Raises:
            GradlabError: one cannot, or what is there was trained by other versions.
        """
        for values in self.grid.points_of_training():
            runs.prepare(self.grid.experiment_at(values))
        versions = runs.versions_of(self.grid.experiment_at(next(self.grid.points())))
        if cached and self.record.versions and self.record.versions != versions:
            before = ", ".join(f"{name} {version}" for name, version in self.record.versions.items())
            raise StoreError(
                f"{self.folder.path} was begun with {before}, on which the results depend\n"
                "its runs cannot stand beside those that would be trained now; --fresh trains all again"
            )
        return self._replace(record=replace(self.record, versions=versions))

    def _with_sharpness(self, record: SweepRecord) -> SweepRecord:
        """Write and return the record with λ of each seed, of which the phase diagram's edge is drawn, if it has one.

        It comes last of all, and is done by the next command where this one is ended before.
        """
        if record.sharpness is None:
            record = replace(record, sharpness=self._sharpness())
            self.folder.write(record)
        return record

    def _sharpness(self) -> dict[str, Any]:
        first = self.grid.experiment_at(next(self.grid.points()))
        if not _has_edge(self.grid, first):
            return {}
        try:
            with redirect_stdout(sys.stderr):  # what a user's task prints is talk
                found = dict(sharpness.measure_seeds(first))
        except GradlabError as error:
            self.say(f"no edge of stability will be drawn: {error}")
            return {}
        return {"seeds": list(found), "eigenvalues": [each.eigenvalue for each in found.values()]}

    def standing(self, status: str, results: Results, progress: _Progress | None = None) -> SweepRecord:
        """Write and return the record as it stands now."""
        there = results.by_run()
        record = replace(
            self.record,
            status=status,
            done=len(there),
            failed=sum(block.status[nth] == "failed" for block, nth in there.values()),
            run_steps=self.record.run_steps + (progress.steps if progress else 0),
            seconds=self.record.seconds + (progress.seconds if progress else 0.0),
        )
        self.folder.write(record)
        return record

    def _cores(self) -> int:
        """Return how many processes there is a core for, each with the threads of the experiment."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, cores // self.record.threads)

    def say(self, text: str) -> None:
        """Tell the watcher."""
        if self.watcher:
            self.watcher.says(text)


def _has_edge(grid: Grid, first: Experiment) -> bool:
    """Say whether theory knows the edge of stability over the lr: of plain SGD at a constant lr, one for all."""
    varied = {axis.path[-1] for axis in grid.axes}
    if "lr" not in varied or first.match_lr or varied & {"name", "task", "momentum", "dampening", "weight_decay"}:
        return False
    return not why_no_theory(first.settings(first.parsed_modes[0], grid.seeds[0]))


class _Progress:
    """Adds up how far the cells are."""

    def __init__(self, cells: Sequence[tuple[int, ...]], cached: int, watcher: Watcher | None) -> None:
        self.cells, self.cached, self.watcher = cells, cached, watcher
        self.steps = self.done = 0
        self.under_way: dict[int, tuple[int, float]] = {}
        self.begin: float | None = None  # when the first cell began: what imports took before is no training

    @property
    def seconds(self) -> float:
        """Since the first cell began; 0 where none is done."""
        return time.monotonic() - self.begin if self.begin is not None and self.steps else 0.0

    def tell(self, nth: int, steps: int, share: float) -> None:
        """Hear of a cell that is under way."""
        if self.begin is None:
            self.begin = time.monotonic()
            if self.watcher:
                self.watcher.begins(self.cached + sum(map(len, self.cells)), self.cached)
        self.under_way[nth] = steps, share * len(self.cells[nth])
        self._tell()

    def ends(self, nth: int, steps: int) -> None:
        """Count a cell that has ended, of so many steps."""
        self.under_way.pop(nth, None)
        self.steps += steps
        self.done += len(self.cells[nth])
        self._tell()

    def _tell(self) -> None:
        if self.watcher:
            steps, done = (sum(each) for each in zip((0, 0.0), *self.under_way.values(), strict=True))
            self.watcher.at(int(self.steps + steps), self.cached + self.done + done)


def _outcome(folder: SweepFolder, record: SweepRecord, results: Results, cached: int) -> Outcome:
    there = results.by_run().values()
    errors = Counter(block.error[nth] for block, nth in there if block.error[nth])
    by_loop = Counter(block.why for block, _ in there if block.engine != record.engine)
    return Outcome(folder, record, cached, results.ended(), dict(errors.most_common()), dict(by_loop.most_common()))
