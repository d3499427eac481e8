"""Cells: runs that are trained together. They depend on the grid and the chunk, not on the workers."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from itertools import chain, product
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gradlab import modes, tasks
from gradlab.experiment import RULE_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradlab.experiment import Experiment
    from gradlab.modes import Mode
    from gradlab.sweeps.axes import Axis
    from gradlab.sweeps.grid import Grid
    from gradlab.sweeps.numbering import Run

T = TypeVar("T")
LOOP_CHUNK = 8  # runs per cell, at most, if each trains alone: an interruption loses the whole cell
MOST_OF_SEVERAL_SEEDS = 1024  # runs per cell with several seeds: more gain little, and a killed process loses them all


class Cell(NamedTuple):
    """Runs that are trained together, as plain data that can be sent to other processes.

    Attributes:
        grid: the common settings: a grid without values, modes and seeds.
        runs: the runs with their values, modes and seeds.
    """

    grid: Grid
    runs: list[Run]


class LoadedCell(NamedTuple):
    """A cell that is ready for training.

    Attributes:
        experiments: one per run; they differ only in keep and optimizer options.
        modes: one per run, loaded; they differ only in name and keep.
        seeds: one per run; runs of the same seed are adjacent.
        compiled: whether to compile the step.
    """

    experiments: list[Experiment]
    modes: list[Mode]
    seeds: list[int]
    compiled: bool = False

    @property
    def experiment(self) -> Experiment:
        """An experiment with the common settings: task, optimizer name, length and device."""
        return self.experiments[0]

    def build(self, seed: int) -> tasks.Task:
        """Seed every generator and return a new task on its device.

        Weights and first batches are compared with those of the seed's other runs.
        """
        name, options = self.experiment.task_name, self.experiment.task_options
        start = _start(name, self.experiment.task_source, seed, json.dumps(options))
        return tasks.verified(name, seed, tasks.build(name, seed, options), start).to(self.experiment.device)


@lru_cache(maxsize=1000)
def _start(task: tasks.TaskName, _source: str | None, seed: int, options: str) -> tasks.Start:
    return tasks.start_of(task, seed, json.loads(options))


def forget_starts() -> None:
    """Forget the starts of earlier sweeps: a module or the default dtype that the task uses may have changed since."""
    _start.cache_clear()


def cells_of(grid: Grid, chunk: int) -> list[tuple[int, ...]]:
    """Return the run numbers of each cell, at most `chunk` per cell.

    Runs of a stacked cell differ only in keep, optimizer options and seed. With the plain loop, they share optimizer
    options too, so that several processes can share a small sweep. Runs of one seed share batches. They are adjacent,
    and in different cells only if there are more than `chunk`.
    """
    alike: dict[Any, list[tuple[Any, int]]] = {}
    seeds = len(grid.seeds)
    matched = grid.experiment["match_lr"]
    places = product(*(range(len(axis.values)) for axis in grid.axes), range(max(1, len(grid.modes))))
    for group, place in enumerate(places):
        mode = grid.run(group * seeds).mode
        shape = (mode.every, mode.mean, mode.fill, mode.by_batch, mode.name if mode.own else None)
        share = modes.matched_lr_scale(mode) if matched else 1.0
        options = share, tuple(at for at, axis in zip(place, grid.axes, strict=False) if _is_option(axis))
        point = tuple(at for at, axis in zip(place, grid.axes, strict=False) if not _is_option(axis, *RULE_KEYS))
        key = (point, shape, None if grid.engine == "ensemble" else options)
        alike.setdefault(key, []).append((options, group * seeds))
    cells = []
    for members in alike.values():
        ordered = [begin for _, begin in sorted(members)]
        by_seed = [[begin + seed for begin in ordered] for seed in sorted(range(seeds), key=grid.seeds.__getitem__)]
        if len(ordered) > chunk:
            cells += [tuple(part) for one in by_seed for part in _parts(one, chunk)]
        else:
            together = max(1, min(chunk, MOST_OF_SEVERAL_SEEDS) // len(ordered))
            cells += [tuple(chain(*part)) for part in _parts(by_seed, together)]
    return cells


def _is_option(axis: Axis, *or_: str) -> bool:
    """Return whether an axis varies an optimizer option or has one of these keys."""
    return (axis.path[0] == "optimizer" and axis.path[1:] != ("name",)) or axis.key in or_


def _parts(items: list[T], most: int) -> Iterator[list[T]]:
    """Split a list into parts of at most `most` items and nearly equal length."""
    parts = math.ceil(len(items) / most)
    return (items[nth * len(items) // parts : (nth + 1) * len(items) // parts] for nth in range(parts))


def cell_of(grid: Grid, numbers: Sequence[int]) -> Cell:
    """Return the cell with the runs of these numbers."""
    axes = tuple(axis._replace(values=()) for axis in grid.axes)
    common = grid._replace(experiment=grid.experiment | {"seeds": [0]}, axes=axes, modes=(), seeds=())
    return Cell(common, [grid.run(number) for number in numbers])


def load_cell(cell: Cell) -> LoadedCell:
    """Return the cell ready for training.

    Raises:
        GradlabError: an error that the user can fix, in the task, optimizer or modes.
    """
    kept = [nth for nth, axis in enumerate(cell.grid.axes) if axis.key in RULE_KEYS]
    found: dict[Any, Experiment] = {}  # shared by runs that differ only in keep or every, since checking takes time
    experiments = []
    for run in cell.runs:
        point = tuple(json.dumps(value) for nth, value in enumerate(run.values) if nth not in kept)
        if point not in found:
            found[point] = cell.grid.experiment_at(run.values)
        experiments.append(found[point])
    loaded = [modes.load(run.mode) for run in cell.runs]
    return LoadedCell(experiments, loaded, [run.seed for run in cell.runs], cell.grid.compiled)
