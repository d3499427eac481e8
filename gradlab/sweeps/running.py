"""Runs a sweep: reuses finished cells, trains the others, and records each when it ends."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from contextlib import ExitStack, redirect_stdout, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import runs, store
from gradlab.analysis import sharpness
from gradlab.analysis.quadratic import why_no_theory
from gradlab.errors import GradlabError, StoreError
from gradlab.experiment import identity
from gradlab.store import SweepRecord
from gradlab.sweeps import stacked
from gradlab.sweeps.cells import cells_of, forget_starts
from gradlab.sweeps.cluster import Cluster
from gradlab.sweeps.workers import Workers, train_in_process
from gradlab.wording import counted, option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gradlab.experiment import Experiment
    from gradlab.store import BlockLog, Results, SweepFolder
    from gradlab.sweeps.grid import Grid
    from gradlab.sweeps.workers import Ended, Executor


class SweepResult(NamedTuple):
    """The outcome of a sweep.

    Attributes:
        folder: the sweep's folder.
        record: the sweep's record.
        cached: the number of reused runs.
        ended: the number of runs by verdict, and of failed ones.
        errors: the number of failed runs by error.
        by_loop: the number of runs that the plain loop trained instead of the sweep's engine, by reason.
        lost: the number of runs that could not be trained because processes died.
        lost_reason: how the last of these processes ended.
    """

    folder: SweepFolder
    record: SweepRecord
    cached: int
    ended: dict[str, int]
    errors: dict[str, int]
    by_loop: dict[str, int]
    lost: int = 0
    lost_reason: str = ""

    @property
    def failed(self) -> int:
        """The number of runs that failed or could not be trained."""
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
    progress: runs.Progress | None = None,
    stop: runs.Stop | None = None,
) -> SweepResult:
    """Train the missing runs of a grid, cell by cell, and record them in one folder under `out`.

    Args:
        grid: the grid of runs.
        out: the folder of all experiments.
        fresh: retrain finished runs.
        workers: the number of processes; 1 trains in this process. Default: one per core.
        executor: trains the cells instead of local processes.
        dask: the address of a Dask scheduler whose workers train the cells instead.
        chunk: runs per cell, at most, in a new sweep. Default: chosen for the engine.
        progress: receives progress and messages.
        stop: the stop request.

    Raises:
        StoppedError: a stop was requested. Finished cells are kept, and the next call continues from there.
        GradlabError: an error that the user can fix, in the folder, task, task options, optimizer or device.
    """
    forget_starts()
    stacked.forget_tasks()
    settings = settings_of(grid)
    name = grid.experiment["name"]
    folder = store.SweepFolder(out / name / f"sweep-{identity(settings)}")
    if not fresh and (finished := _finished(folder, grid)) is not None:
        return finished
    progress = progress or runs.Progress()
    notify = progress.on_message
    with ExitStack() as stack:
        if dask is not None:  # first: a missing cluster is reported before anything is measured
            executor = stack.enter_context(Cluster(dask))
        folder.make()
        log = stack.enter_context(folder.log(fresh=fresh))
        try:
            record = (None if fresh else _begun(folder, settings)) or _new_record(grid, settings, chunk, progress)
            grid = grid._replace(compiled=record.compiled)
            results = folder.results()
            for message in results.damaged:
                notify(f"{message}; its runs are retrained")
            there = results.by_run()
            cells = [cell for cell in cells_of(grid, record.chunk) if not all(run in there for run in cell)]
            state = _SweepState(cells, grid.runs - sum(map(len, cells)), progress)
            ended: Iterator[Ended] = iter(())
            stop = stop or runs.Stop()
            if cells:
                if executor is None:  # the processes import torch while this one prepares
                    count = min(workers or _cores(record.threads), len(cells))
                    executor = stack.enter_context(Workers(count)) if count > 1 else train_in_process
                record = _prepared(grid, folder, record, state)
                ended = executor(grid, cells, state.on_progress, stop)
            record, results = _train(folder, record, log, state, ended, stop)
            if record.status == "done" and record.sharpness is None:  # at the end, or in the next command
                record = replace(record, sharpness=_sharpness(grid, progress))
                folder.write(record)
            return _result(folder, record, results, state.cached)._replace(
                lost=state.lost, lost_reason=state.lost_reason
            )
        except runs.StoppedError:
            done = f"stopped after {state.cached + state.done:,} of {grid.runs:,} runs"
            raise runs.StoppedError(done, "continues from there", fresh=fresh) from None
        except BaseException:
            folder.drop_if_empty()
            raise


def settings_of(grid: Grid) -> dict[str, Any]:
    """Return everything that decides the runs of a grid, in canonical form, for identity and record."""
    first = grid.experiment_at(next(iter(grid.points())))
    mode = first.parsed_modes[0]
    settings = first.settings(mode, grid.seeds[0])
    for key in ("mode", "mode_source", "seed", "engine", "log"):
        settings.pop(key, None)
    for axis in grid.axes:
        *path, last = axis.path
        section: Any = settings
        for part in path:
            section = section.get(part, {})
        if isinstance(section, dict):
            section.pop(last, None)
    settings |= _varied_sources(grid)
    sources = [each.get("mode_source") for each in (first.settings(mode, 0) for mode in first.parsed_modes)]
    return {
        **settings,
        **({"match_lr": True} if first.match_lr else {}),
        **({"mode_sources": sources} if any(sources) else {}),
        "vary": [[axis.key, list(axis.values)] for axis in grid.axes],
        "modes": grid.mode_names,
        "seeds": list(grid.seeds),
        "engine": grid.engine,
    }


def _varied_sources(grid: Grid) -> dict[str, Any]:
    """Return the sources of a user's optimizers and schedules, if these vary; else nothing."""
    found: dict[str, Any] = {}
    for axis in grid.axes:
        table = axis.path[0]
        if axis.key in ("optimizer.name", "schedule", "schedule.name"):
            mode, seed = grid.run(0).mode, grid.seeds[0]
            alone = (grid._replace(axes=(axis,)).experiment_at((value,), partial=True) for value in axis.values)
            found[f"{table}_source"] = [each.settings(mode, seed).get(f"{table}_source") for each in alone]
    return {key: sources for key, sources in found.items() if any(sources)}


def _finished(folder: SweepFolder, grid: Grid) -> SweepResult | None:
    """Return the result of a finished sweep, or None."""
    try:
        record = folder.read()
        results = folder.results()
    except GradlabError:
        return None
    if record.status != "done" or record.sharpness is None or len(results.by_run()) != grid.runs:
        return None
    return _result(folder, record, results, grid.runs)


def _begun(folder: SweepFolder, settings: dict[str, Any]) -> SweepRecord | None:
    """Return the record of a sweep that was started before, or None."""
    if folder.record_file.exists():
        with suppress(StoreError):  # damaged: retrain everything
            before = folder.read()
            if before.settings == settings:
                return replace(before, status="running")
    return None


def _new_record(grid: Grid, settings: dict[str, Any], chunk: int | None, progress: runs.Progress) -> SweepRecord:
    progress.on_prepare("measuring how many runs train fastest together")
    plan = stacked.StackPlan(chunk) if chunk else stacked.planned(grid)
    if plan.no_compiler:
        progress.on_message(f"training is not compiled, though that would be faster: {plan.no_compiler}")
    return SweepRecord(
        experiment=grid.experiment["name"],
        title=grid.experiment["title"],
        identity=identity(settings),
        settings=settings,
        axes=[axis._asdict() | {"values": list(axis.values)} for axis in grid.axes],
        modes=grid.mode_names,
        seeds=list(grid.seeds),
        chunk=plan.chunk,
        compiled=plan.compiled,
        engine=grid.engine,
        runs=grid.runs,
        status="running",
        threads=grid.experiment["threads"],
        started=store.now(),
    )


def _prepared(grid: Grid, folder: SweepFolder, record: SweepRecord, state: _SweepState) -> SweepRecord:
    """Check that all points can be trained; write and return the record with the versions.

    Raises:
        GradlabError: a point cannot be trained, or existing results are from other versions.
    """
    points = list(grid.points_of_training())
    state.progress.on_prepare(f"checking {counted(len(points), 'point')} of the grid")
    for values in points:
        runs.prepare(grid.experiment_at(values))
    versions = runs.versions_of(grid.experiment_at(next(grid.points())))
    if state.cached and record.versions and record.versions != versions:
        before = ", ".join(f"{name} {version}" for name, version in record.versions.items())
        raise StoreError(
            f"{folder.path} was started with {before}; results depend on these versions\n"
            f"new runs cannot be compared with it; {option('fresh')} retrains all"
        )
    record = replace(record, versions=versions)
    folder.write(record)
    state.progress.on_prepare("starting to train")
    return record


def _cores(threads: int) -> int:
    """Return the number of processes with this number of threads that the cores can run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def _train(
    folder: SweepFolder,
    record: SweepRecord,
    log: BlockLog,
    progress: _SweepState,
    ended: Iterator[Ended],
    stop: runs.Stop,
) -> tuple[SweepRecord, Results]:
    """Record each cell when it ends, and finally the state of the sweep."""
    status = "interrupted"
    stop.checked_after_steps = True
    try:
        for each in ended:
            if each.block:
                log.append(each.block)
            progress.add(each)
        status = "interrupted" if progress.lost else "done"
    finally:
        stop.checked_after_steps = False
        log.sync()
        results = folder.results()
        there = results.by_run()
        record = replace(
            record,
            status=status,
            done=len(there),
            failed=sum(block.status[nth] == "failed" for block, nth in there.values()),
            training_set_batches=results.training_set_batches,
            run_steps=record.run_steps + progress.steps,
            seconds=record.seconds + progress.seconds,
        )
        folder.write(record)
    return record, results


def _sharpness(grid: Grid, progress: runs.Progress) -> dict[str, Any]:
    """Return λ of each seed for the edge in the phase diagram, or {} if no edge is known."""
    first = grid.experiment_at(next(grid.points()))
    if not _has_edge(grid, first):
        return {}
    progress.on_prepare("measuring λ for the edge of stability")
    try:
        with redirect_stdout(sys.stderr):  # output of the user's task goes to stderr
            found = dict(sharpness.measure_seeds(first))
    except GradlabError as error:
        progress.on_message(f"the edge of stability will not be drawn: {error}")
        return {}
    return {"seeds": list(found), "eigenvalues": [each.eigenvalue for each in found.values()]}


def _has_edge(grid: Grid, first: Experiment) -> bool:
    """Return whether theory predicts the edge of stability over lr: for plain SGD with constant lr."""
    varied = {axis.path[-1] for axis in grid.axes}
    if "lr" not in varied or first.match_lr or varied & {"name", "task", "momentum", "dampening", "weight_decay"}:
        return False
    return not why_no_theory(first.settings(first.parsed_modes[0], grid.seeds[0]))


class _SweepState:
    """Sums up the progress of all cells."""

    def __init__(self, cells: Sequence[tuple[int, ...]], cached: int, progress: runs.Progress) -> None:
        self.cells, self.cached, self.progress = cells, cached, progress
        self.steps = self.done = self.lost = 0
        self.lost_reason = ""
        self.under_way: dict[int, tuple[int, float]] = {}
        self.begin: float | None = None  # when the first cell started, after all imports

    @property
    def seconds(self) -> float:
        """Seconds since the first cell started; 0 if none is done."""
        return time.monotonic() - self.begin if self.begin is not None and self.steps else 0.0

    def on_progress(self, nth: int, steps: int, share: float) -> None:
        """Report progress of a running cell."""
        self.under_way[nth] = steps, share * len(self.cells[nth])
        self._report()

    def add(self, cell: Ended) -> None:
        """Report an ended cell."""
        self.under_way.pop(cell.nth, None)
        if cell.block:
            self.steps += sum(cell.block.steps)
            self.done += len(self.cells[cell.nth])
        else:
            self.lost, self.lost_reason = self.lost + len(self.cells[cell.nth]), cell.error
        self._report()

    def _report(self) -> None:
        if self.begin is None:
            self.begin = time.monotonic()
            self.progress.on_start("sweep", self.cached + sum(map(len, self.cells)), done_runs=self.cached)
        steps, done = (sum(each) for each in zip((0, 0.0), *self.under_way.values(), strict=True))
        self.progress.on_progress(int(self.steps + steps), self.cached + self.done + done)


def _result(folder: SweepFolder, record: SweepRecord, results: Results, cached: int) -> SweepResult:
    there = results.by_run().values()
    errors = Counter(block.error[nth] for block, nth in there if block.error[nth])
    by_loop = Counter(block.why for block, _ in there if block.engine != record.engine)
    return SweepResult(
        folder, record, cached, results.ended(), dict(errors.most_common()), dict(by_loop.most_common())
    )
