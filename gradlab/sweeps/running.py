"""A sweep: what is there is kept, the cells that are missing are trained, and each is recorded as it ends."""

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
from gradlab.sweeps.cells import cells_of
from gradlab.sweeps.cluster import Cluster
from gradlab.sweeps.workers import Workers, train_in_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from gradlab.experiment import Experiment
    from gradlab.store import BlockLog, Results, SweepFolder
    from gradlab.sweeps.grid import Grid
    from gradlab.sweeps.workers import Ended, Executor


class SweepResult(NamedTuple):
    """What a sweep did.

    Attributes:
        folder: of the sweep.
        record: what it is, and how it stands.
        cached: how many of its runs were there before.
        ended: how many runs ended with which verdict, or failed.
        errors: what ended runs that failed, and how many each.
        by_loop: why runs were trained by the plain loop where another engine was to, and how many each.
        lost: how many runs could not be trained.
        lost_reason: how the processes that trained these ended.
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
    progress: runs.Progress | None = None,
    stop: runs.Stop | None = None,
) -> SweepResult:
    """Train the runs of a grid that are not there yet, cell by cell, and record them in one folder under `out`.

    Args:
        grid: all that decides the runs.
        out: the folder of runs.
        fresh: train again what is there.
        workers: processes to train in, 1 for this one; default as many as there are cores.
        executor: where to train instead.
        dask: the address of a Dask scheduler, on whose workers to train instead.
        chunk: runs of a cell at most, of a sweep that begins; default what suits the engine.
        progress: receives progress and messages.
        stop: a wish to stop.

    Raises:
        StoppedError: `stop` was asked for; whole cells are kept, and the same goes on from there.
        GradlabError: what a user can fix: the folder, the task, its options, the optimizer, the device.
    """
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
            record = (None if fresh else _begun(folder, settings)) or _new_record(grid, settings, chunk, notify)
            grid = grid._replace(compiled=record.compiled)
            results = folder.results()
            for message in results.damaged:
                notify(f"{message}; its runs are trained again")
            there = results.by_run()
            cells = [cell for cell in cells_of(grid, record.chunk) if not all(run in there for run in cell)]
            state = _SweepState(cells, grid.runs - sum(map(len, cells)), progress)
            ended: Iterator[Ended] = iter(())
            stop = stop or runs.Stop()
            if cells:
                if executor is None:  # its processes import torch while this one prepares
                    count = min(workers or _cores(record.threads), len(cells))
                    executor = stack.enter_context(Workers(count)) if count > 1 else train_in_process
                record = _prepared(grid, folder, record, state.cached)
                ended = executor(grid, cells, state.on_progress, stop)
            record, results = _train(folder, record, log, state, ended, stop)
            if record.status == "done" and record.sharpness is None:  # last of all, or by the next command
                record = replace(record, sharpness=_sharpness(grid, notify))
                folder.write(record)
            return _result(folder, record, results, state.cached)._replace(
                lost=state.lost, lost_reason=state.lost_reason
            )
        except runs.StoppedError:
            message = f"stopped after {state.cached + state.done:,} of {grid.runs:,} runs"
            command = "the same command without --fresh" if fresh else "the same command"
            raise runs.StoppedError(f"{message}; {command} goes on from there") from None
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
        "modes": grid.mode_names,
        "seeds": list(grid.seeds),
        "engine": grid.engine,
    }


def _finished(folder: SweepFolder, grid: Grid) -> SweepResult | None:
    """Return the result of a sweep that is there whole, or None."""
    try:
        record = folder.read()
        results = folder.results()
    except GradlabError:
        return None
    if record.status != "done" or record.sharpness is None or len(results.by_run()) != grid.runs:
        return None
    return _result(folder, record, results, grid.runs)


def _begun(folder: SweepFolder, settings: dict[str, Any]) -> SweepRecord | None:
    """Return the record of a sweep that was begun before, or None."""
    if folder.record_file.exists():
        with suppress(StoreError):  # damaged: then all is trained again
            before = folder.read()
            if before.settings == settings:
                return replace(before, status="running")
    return None


def _new_record(
    grid: Grid, settings: dict[str, Any], chunk: int | None, notify: Callable[[str], object]
) -> SweepRecord:
    plan = stacked.StackPlan(chunk) if chunk else stacked.planned(grid)
    if plan.no_compiler:
        notify(f"the step is not compiled, which would have paid: {plan.no_compiler}")
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


def _prepared(grid: Grid, folder: SweepFolder, record: SweepRecord, cached: int) -> SweepRecord:
    """Write and return the record with the versions its runs are trained by, once all points can be trained.

    Raises:
        GradlabError: one cannot, or what is there was trained by other versions.
    """
    for values in grid.points_of_training():
        runs.prepare(grid.experiment_at(values))
    versions = runs.versions_of(grid.experiment_at(next(grid.points())))
    if cached and record.versions and record.versions != versions:
        before = ", ".join(f"{name} {version}" for name, version in record.versions.items())
        raise StoreError(
            f"{folder.path} was begun with {before}, on which the results depend\n"
            "its runs cannot stand beside those that would be trained now; --fresh trains all again"
        )
    record = replace(record, versions=versions)
    folder.write(record)
    return record


def _cores(threads: int) -> int:
    """Return how many processes of so many threads there are cores for."""
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
    """Record each cell as it ends, and then how the sweep stands, however that ends."""
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
            run_steps=record.run_steps + progress.steps,
            seconds=record.seconds + progress.seconds,
        )
        folder.write(record)
    return record, results


def _sharpness(grid: Grid, notify: Callable[[str], object]) -> dict[str, Any]:
    """Return λ of each seed, of which the phase diagram's edge is drawn, or nothing where it has none."""
    first = grid.experiment_at(next(grid.points()))
    if not _has_edge(grid, first):
        return {}
    try:
        with redirect_stdout(sys.stderr):  # what a user's task prints is talk
            found = dict(sharpness.measure_seeds(first))
    except GradlabError as error:
        notify(f"no edge of stability will be drawn: {error}")
        return {}
    return {"seeds": list(found), "eigenvalues": [each.eigenvalue for each in found.values()]}


def _has_edge(grid: Grid, first: Experiment) -> bool:
    """Say whether theory knows the edge of stability over the lr: of plain SGD at a constant lr, one for all."""
    varied = {axis.path[-1] for axis in grid.axes}
    if "lr" not in varied or first.match_lr or varied & {"name", "task", "momentum", "dampening", "weight_decay"}:
        return False
    return not why_no_theory(first.settings(first.parsed_modes[0], grid.seeds[0]))


class _SweepState:
    """Adds up how far the cells are."""

    def __init__(self, cells: Sequence[tuple[int, ...]], cached: int, progress: runs.Progress) -> None:
        self.cells, self.cached, self.progress = cells, cached, progress
        self.steps = self.done = self.lost = 0
        self.lost_reason = ""
        self.under_way: dict[int, tuple[int, float]] = {}
        self.begin: float | None = None  # when the first cell began: what imports took before is no training

    @property
    def seconds(self) -> float:
        """Since the first cell began; 0 where none is done."""
        return time.monotonic() - self.begin if self.begin is not None and self.steps else 0.0

    def on_progress(self, nth: int, steps: int, share: float) -> None:
        """Count a cell that is under way."""
        self.under_way[nth] = steps, share * len(self.cells[nth])
        self._report()

    def add(self, cell: Ended) -> None:
        """Count a cell that has ended."""
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
