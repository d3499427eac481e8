"""Cells: runs that are trained together. The grid alone decides how it is cut into cells, and not who trains them."""

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
LOOP_CHUNK = 8  # runs of a cell at most where each is trained alone: what is lost when it is interrupted, and a line
MOST_OF_SEVERAL_SEEDS = 1024  # runs of a cell with several seeds: a killed process loses its whole cell


class Cell(NamedTuple):
    """Runs that are trained together, in plain data: it goes to other processes as it is, however large the grid.

    Attributes:
        grid: all that the runs have in common: a grid without values, modes and seeds.
        runs: with their values, modes and seeds.
    """

    grid: Grid
    runs: list[Run]


class LoadedCell(NamedTuple):
    """A cell that is ready to be trained.

    Attributes:
        experiments: of each run; they differ in what is kept and in options of the optimizer alone.
        modes: of each run, loaded; they differ in name and keep alone.
        seeds: of each run; those of one seed stand together.
        compiled: whether its step is to be compiled.
    """

    experiments: list[Experiment]
    modes: list[Mode]
    seeds: list[int]
    compiled: bool = False

    @property
    def experiment(self) -> Experiment:
        """What all of them have in common: task, name of the optimizer, end, device."""
        return self.experiments[0]

    def build(self, seed: int) -> tasks.Task:
        """Return a new task of a seed, every generator seeded, on its device.

        Its weights are compared with those of the other runs of that seed, and its batches as they are first drawn.
        """
        name, options = self.experiment.task_name, self.experiment.task_options
        start = _start(name, self.experiment.task_source, seed, json.dumps(options))
        return tasks.verified(name, seed, tasks.build(name, seed, options), start).to(self.experiment.device)


@lru_cache(maxsize=1000)
def _start(task: tasks.TaskName, _source: str | None, seed: int, options: str) -> tasks.Start:
    return tasks.start_of(task, seed, json.loads(options))


def cells_of(grid: Grid, chunk: int) -> list[tuple[int, ...]]:
    """Return the numbers of the runs of each cell: of `chunk` at most.

    Runs of a cell differ in what is kept, in options of the optimizer and in seed alone; where each is trained by
    itself, not in these options, so that several processes share even a small sweep. Those of one seed stand
    together, and are cut apart only where they alone are more than `chunk`: runs of one seed share its batches.
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
    """Say whether an axis varies an option of the optimizer, or is one of these keys."""
    return (axis.path[0] == "optimizer" and axis.path[1:] != ("name",)) or axis.key in or_


def _parts(items: list[T], most: int) -> Iterator[list[T]]:
    """Cut a list into parts of at most so many, as equal in length as possible."""
    parts = math.ceil(len(items) / most)
    return (items[nth * len(items) // parts : (nth + 1) * len(items) // parts] for nth in range(parts))


def cell_of(grid: Grid, numbers: Sequence[int]) -> Cell:
    """Return the cell of the runs of these numbers."""
    axes = tuple(axis._replace(values=()) for axis in grid.axes)
    common = grid._replace(experiment=grid.experiment | {"seeds": [0]}, axes=axes, modes=(), seeds=())
    return Cell(common, [grid.run(number) for number in numbers])


def load_cell(cell: Cell) -> LoadedCell:
    """Return the cell ready to be trained.

    Raises:
        GradlabError: what a user can fix, of the task, the optimizer or the modes.
    """
    kept = [nth for nth, axis in enumerate(cell.grid.axes) if axis.key in RULE_KEYS]
    found: dict[Any, Experiment] = {}  # one for all that differ in what is kept: checking one takes a moment
    experiments = []
    for run in cell.runs:
        point = tuple(json.dumps(value) for nth, value in enumerate(run.values) if nth not in kept)
        if point not in found:
            found[point] = cell.grid.experiment_at(run.values)
        experiments.append(found[point])
    loaded = [modes.load(run.mode) for run in cell.runs]
    return LoadedCell(experiments, loaded, [run.seed for run in cell.runs], cell.grid.compiled)
