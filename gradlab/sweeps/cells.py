"""Cells: runs that are trained together, and what comes of them; cut by the grid alone, and not by who trains them."""

from __future__ import annotations

import json
import math
import os
from array import array
from functools import lru_cache, partial
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gradlab import modes, runs, tasks
from gradlab.analysis import curves
from gradlab.engines import loop
from gradlab.engines.ensemble import CannotStackError
from gradlab.errors import GradlabError, shortened
from gradlab.experiment import RULE
from gradlab.store import Block
from gradlab.sweeps import stacked
from gradlab.sweeps.cell import Cell, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradlab.experiment import Experiment
    from gradlab.sweeps.grid import Axis, Grid

T = TypeVar("T")
LOOP_CHUNK = 8  # runs of a cell at most where each is trained alone: what is lost when it is interrupted, and a line
ENOUGH = 1024  # runs of a cell that has several seeds: more of them save little, and whoever is killed loses the cell


# Engines that train the runs of a cell together, by name. One that cannot raises, before or amid a training: then the
# runs are trained one by one by the plain loop.
TOGETHER: dict[str, Callable[[Cell], Iterator[Step]]] = {"ensemble": stacked.train}


def cells_of(grid: Grid, chunk: int) -> list[tuple[int, ...]]:
    """Return the numbers of the runs of each cell: of `chunk` at most.

    Runs of a cell differ in what is kept, in options of the optimizer and in seed alone; where each is trained by
    itself, not in these options, so that several processes share even a small sweep. Those of one seed stand
    together, and are cut apart only where they alone are more than `chunk`: whoever shares a seed shares its batches.
    """
    alike: dict[Any, list[tuple[Any, int]]] = {}
    seeds = len(grid.seeds)
    matched = grid.experiment["match_lr"]
    places = product(*(range(len(axis.values)) for axis in grid.axes), range(max(1, len(grid.modes))))
    for group, place in enumerate(places):
        word = grid.run(group * seeds).mode
        shape, share = _shape(word, grid.folder, matched=matched)
        options = share, tuple(at for at, axis in zip(place, grid.axes, strict=False) if _is_option(axis))
        point = tuple(at for at, axis in zip(place, grid.axes, strict=False) if not _is_option(axis, *RULE))
        key = (point, shape, None if grid.engine in TOGETHER else options)
        alike.setdefault(key, []).append((options, group * seeds))
    cells = []
    for members in alike.values():
        ordered = [begin for _, begin in sorted(members)]
        by_seed = [[begin + seed for begin in ordered] for seed in sorted(range(seeds), key=grid.seeds.__getitem__)]
        if len(ordered) > chunk:
            cells += [tuple(part) for one in by_seed for part in _parts(one, chunk)]
        else:
            together = max(1, min(chunk, ENOUGH) // len(ordered))
            cells += [tuple(chain(*part)) for part in _parts(by_seed, together)]
    return cells


def _is_option(axis: Axis, *or_: str) -> bool:
    """Say whether an axis varies an option of the optimizer, or is one of these keys."""
    return (axis.path[0] == "optimizer" and axis.path[1:] != ("name",)) or axis.key in or_


def _parts(items: list[T], most: int) -> Iterator[list[T]]:
    """Cut a list into parts of at most so many, as equal in length as can be."""
    parts = math.ceil(len(items) / most)
    return (items[nth * len(items) // parts : (nth + 1) * len(items) // parts] for nth in range(parts))


@lru_cache(maxsize=100_000)
def _shape(word: str, folder: str | None, *, matched: bool) -> tuple[Any, float]:
    """Return what of a mode decides more than how much is kept, and its share of the lr."""
    mode = modes.parse(word, Path(folder) if folder else None)
    share = modes.share_of_matched_lr(mode) if matched else 1.0
    return (mode.every, mode.mean, mode.fill, mode.by_batch, mode.name if mode.own else None), share


def train_cell(grid: Grid, indices: Sequence[int], tell: Callable[[int, float], object] = lambda *_: None) -> Block:
    """Train the runs of these numbers, which are those of one cell, and return what came of them.

    A run whose task raises fails, and no other does.

    Args:
        grid: all that decides them.
        indices: their numbers, in the order of the cell.
        tell: called after each step with the steps of all runs so far, and the share of the cell that is done; what it
            raises ends the training.

    Raises:
        GradlabError: what a user can fix, of the task, the optimizer or the mode.
    """
    process = os.getpid()
    try:
        return _trained(grid, indices, _Telling(tell))
    except _Untold as ended:
        raise ended.error from None
    finally:
        if os.getpid() != process:  # a child that the task has forked came back here: the runs are its parent's
            os._exit(1)


def cell_of(grid: Grid, indices: Sequence[int]) -> Cell:
    """Return the runs of these numbers as what an engine is given."""
    chosen = [grid.run(index) for index in indices]
    kept = [nth for nth, axis in enumerate(grid.axes) if axis.key in RULE]
    found: dict[Any, Experiment] = {}  # one for all that differ in what is kept: reading one takes a moment
    experiments = []
    for run in chosen:
        point = tuple(json.dumps(value) for nth, value in enumerate(run.values) if nth not in kept)
        if point not in found:
            found[point] = grid.experiment_at(run.values)
        experiments.append(found[point])
    loaded = [modes.load(modes.parse(run.mode, experiments[0].folder)) for run in chosen]
    seeds = [run.seed for run in chosen]
    return Cell(experiments, loaded, seeds, partial(_built, experiments[0]), grid.compiled)


def _trained(grid: Grid, indices: Sequence[int], told: _Telling) -> Block:
    import torch

    cell = cell_of(grid, indices)
    torch.set_num_threads(cell.experiment.threads)  # results depend on it: part of the settings
    why = ""
    if grid.engine in TOGETHER:
        try:
            return _block(grid.engine, indices, _together(TOGETHER[grid.engine], cell, told))
        except GradlabError:
            raise
        except (Exception, SystemExit, GeneratorExit) as error:  # one run's fault, or what cannot be trained together
            stacked_not = isinstance(error, CannotStackError)
            why = shortened(error, 150) if stacked_not else f"its task raises {type(error).__name__}"
            told.steps = 0
    return _block("loop", indices, [_alone(cell, nth, told) for nth in range(len(indices))], why)


class _Ended(NamedTuple):
    """How a run ended: its summary, and what it raised where it failed."""

    summary: curves.Summary
    error: str = ""


class _Untold(BaseException):
    """What `tell` raised: no fault of a run."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Telling:
    """Counts steps, and tells of them."""

    def __init__(self, tell: Callable[[int, float], object]) -> None:
        self.tell = tell
        self.steps = 0

    def __call__(self, steps: int, share: float) -> None:
        self.steps += steps
        try:
            self.tell(self.steps, share)
        except BaseException as error:
            raise _Untold(error) from None


def _together(engine: Callable[[Cell], Iterator[Step]], cell: Cell, told: _Telling) -> list[_Ended]:
    """Train all runs of the cell at once."""
    count = len(cell.seeds)
    steps = cell.experiment.steps or runs.steps_of(cell.build(cell.seeds[0]), cell.experiment)
    losses: list[Sequence[float]] = []
    items: list[Sequence[float]] = []
    epochs: list[int] = []
    updates = 0
    for step in engine(cell):
        losses.append(array("d", step.losses))
        items += [array("d", step.items)] if step.items else []
        epochs.append(step.epoch)
        updates = step.update + 1
        told(count, len(losses) / steps if steps else 0.0)
    ends = curves.ends_of(epochs)
    each = zip(*losses, strict=True) if losses else ((),) * count
    counted = zip(*items, strict=True) if items else (None,) * count
    return [
        _Ended(curves.summarise_losses(curves.Losses(values, ends, those), updates))
        for values, those in zip(each, counted, strict=True)
    ]


def _alone(cell: Cell, nth: int, told: _Telling) -> _Ended:
    """Train one run of the cell by the plain loop."""
    experiment, mode, count = cell.experiments[nth], cell.modes[nth], len(cell.seeds)
    rows = []
    error = ""
    try:
        task = cell.build(cell.seeds[nth])
        optimizer, scheduler = runs.optimizer_of(experiment, mode, task)
        steps = runs.steps_of(task, experiment)
        for row in loop.train(
            task,
            mode,
            optimizer,
            epochs=experiment.epochs,
            steps=experiment.steps,
            clip_norm=experiment.clip_norm,
            scheduler=scheduler,
        ):
            rows.append(row)
            told(1, (nth + (len(rows) / steps if steps else 0.0)) / count)
    except GradlabError:
        raise
    except (Exception, SystemExit, GeneratorExit) as raised:  # the task is a user's: it ends its own run alone
        told(0, nth / count)  # a signal may have gone to processes that the task relies on
        error = runs.failure(raised, experiment)
    return _Ended(curves.summarise(rows), error)


def _built(experiment: Experiment, seed: int) -> tasks.Task:
    """Return the task of a seed, its weights and batches held against those that all runs of the seed have."""
    options = json.dumps(experiment.task_options)
    start = _start(experiment.task_name, experiment.task_source, seed, options)
    task = tasks.build(experiment.task_name, seed, experiment.task_options)
    return tasks.verified(experiment.task_name, seed, task, start).to(experiment.device)


@lru_cache(maxsize=1000)
def _start(task: tasks.TaskName, _source: str | None, seed: int, options: str) -> tasks.Start:
    return tasks.start_of(task, seed, json.loads(options))


def _block(engine: str, indices: Sequence[int], found: Sequence[_Ended], why: str = "") -> Block:
    summaries = [each.summary for each in found]
    return Block(
        engine=engine,
        run=list(indices),
        status=["failed" if each.error else "done" for each in found],
        verdict=[None if each.error else each.summary.verdict for each in found],
        steps=[each.steps for each in summaries],
        first_loss=[each.first_loss for each in summaries],
        last_loss=[each.last_loss for each in summaries],
        best_loss=[each.best_loss for each in summaries],
        error=[each.error for each in found],
        why=why,
    )
