"""Trains cells as stacks; measures the best stack size and whether compiling pays off."""

from __future__ import annotations

import json
import sys
import time
from contextlib import redirect_stdout
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import modes, optimizers, runs, tasks
from gradlab.engines import ensemble
from gradlab.engines.ensemble.tuning import best_chunk_size, keep_freed_memory, seconds_a_run_step
from gradlab.errors import GradlabError
from gradlab.sweeps.cells import LOOP_CHUNK, cell_of, cells_of, load_cell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.nn import Parameter

    from gradlab.experiment import Experiment
    from gradlab.optimizers import OptimizerName
    from gradlab.sweeps.cells import LoadedCell
    from gradlab.sweeps.grid import Grid

MOST_LOSSES = 2 * 10**7  # per cell, kept until its verdicts are known: 160 MB
COMPILE_FROM = 60.0  # seconds of stacked training; below, compiling is not tried
COMPILED_SIZES = (128, 512)  # stack sizes to compile and measure; compiled code needs fewer runs to fill the cache
COMPILE_GAIN = 3.0  # compiling must gain this many times its duration, since every process compiles


class StackPlan(NamedTuple):
    """How a sweep is trained. The record keeps it, since the last digits of results depend on it.

    Attributes:
        chunk: runs per cell, at most.
        compiled: whether the step is compiled.
        no_compiler: why compiling is not available although it would be faster, else "".
    """

    chunk: int
    compiled: bool = False
    no_compiler: str = ""


def planned(grid: Grid) -> StackPlan:
    """Return the plan of a sweep; for engine ensemble, measure it.

    Raises:
        GradlabError: an error that the user can fix.
    """
    if grid.engine != "ensemble":
        return StackPlan(LOOP_CHUNK)
    alike = max(cells_of(grid, grid.runs), key=len)
    runs.prepare(grid.experiment_at(grid.run(alike[0]).values))
    try:
        with redirect_stdout(sys.stderr):  # output of the user's task goes to stderr
            return _measured(grid, alike)
    except GradlabError:
        raise
    except (Exception, SystemExit, GeneratorExit):  # it cannot be stacked, or fails: every cell reports why
        return StackPlan(LOOP_CHUNK)


def _measured(grid: Grid, alike: Sequence[int]) -> StackPlan:
    """Return the fastest plan, measured on the runs of the largest possible cell."""
    cell = load_cell(cell_of(grid, alike[:1]))
    steps = runs.steps_of(cell.build(cell.seeds[0]), cell.experiment) or 1000
    most = max(1, min(len(alike), MOST_LOSSES // steps))

    def seconds(size: int, *, compiled: bool = False) -> float:
        part = load_cell(cell_of(grid, alike[:size]))
        # without the schedule, which may have an end
        return seconds_a_run_step(training_of(part._replace(compiled=compiled), scheduled=False))

    chunk, found = best_chunk_size(seconds, most)
    total = found[chunk] * steps * grid.runs
    if total < COMPILE_FROM:
        return StackPlan(chunk)
    begin = time.monotonic()
    try:
        size, faster = best_chunk_size(partial(seconds, compiled=True), min(most, max(COMPILED_SIZES)), COMPILED_SIZES)
    except ensemble.CannotStackError as error:
        return StackPlan(chunk, no_compiler=str(error))
    if fault := _steps_of(*_task_of(cell.experiment), compiled=True).fault:
        return StackPlan(chunk, no_compiler=fault)
    gained = total - faster[size] * steps * grid.runs
    return StackPlan(size, compiled=True) if gained > COMPILE_GAIN * (time.monotonic() - begin) else StackPlan(chunk)


def training_of(cell: LoadedCell, *, scheduled: bool = True) -> ensemble.StackedTraining:
    """Return the training of a cell as a stack.

    Raises:
        CannotStackError: only the plain loop can train the cell.
    """
    keep_freed_memory()
    experiment, mode = cell.experiment, cell.modes[0]
    name, source, seeds = experiment.optimizer_name, experiment.optimizer_source, list(dict.fromkeys(cell.seeds))
    each = [json.dumps(one.optimizer_options(of)) for one, of in zip(cell.experiments, cell.modes, strict=True)]
    options = list(dict.fromkeys(each))
    why = next(filter(None, (_obstacle_before(mode, name, source, one) for one in options)), "")
    found = None if why else _rehearsed(*_task_of(experiment), tuple(seeds))
    if why := why or (found.reason_under(mode) if found else ""):
        raise ensemble.CannotStackError(why)
    seed_tasks = [ensemble.SeedTask(cell.build(seed), resumable=False) for seed in seeds]
    members = [
        ensemble.Member(mode, seeds.index(seed), options.index(one))
        for mode, seed, one in zip(cell.modes, cell.seeds, each, strict=True)
    ]
    steps = _steps_of(*_task_of(experiment), compiled=cell.compiled) if found and found.traceable else None
    schedule = partial(runs.scheduler_of, experiment, mode, seed_tasks[0].task) if scheduled else None
    builds = [partial(_optimizer, name, json.loads(one)) for one in options]
    return ensemble.StackedTraining(
        seed_tasks,
        members,
        builds,
        schedule,
        traced=steps,
        scheduler_every=experiment.schedule_every,
        joins=_can_join(experiment, builds),
    )


def _can_join(experiment: Experiment, builds: Sequence[partial[optimizers.Optimizer]]) -> bool:
    """Return whether optimizers of a cell may be joined: a user's code may know of one parameter group only."""
    own_schedule = not isinstance(experiment.schedule_name, str | None)
    return not own_schedule and (isinstance(experiment.optimizer_name, str) or ensemble.can_join(builds))


def _optimizer(name: OptimizerName, options: dict[str, Any], parameters: Sequence[Parameter]) -> optimizers.Optimizer:
    return optimizers.build(name, parameters, options)


@lru_cache(maxsize=1000)
def _obstacle_before(mode: modes.Mode, name: OptimizerName, _source: str | None, options: str) -> str:
    return ensemble.unstackable_reason(mode, partial(_optimizer, name, json.loads(options)))


def forget_tasks() -> None:
    """Forget what earlier sweeps found out about tasks, as `forget_starts` does."""
    _rehearsed.cache_clear()
    _steps_of.cache_clear()


def _task_of(experiment: Experiment) -> tuple[tasks.TaskName, str | None, str, str]:
    """Return the settings that define an experiment's task."""
    return experiment.task_name, experiment.task_source, json.dumps(experiment.task_options), experiment.device


@lru_cache(maxsize=1000)
def _rehearsed(
    task: tasks.TaskName, _source: str | None, options: str, device: str, seeds: tuple[int, ...]
) -> ensemble.Stackability:
    built = (tasks.build(task, seed, json.loads(options)).to(device) for seed in seeds)
    return ensemble.stackability_of(list(built))


@lru_cache(maxsize=1000)
def _steps_of(
    _task: tasks.TaskName, _source: str | None, _options: str, _device: str, *, compiled: bool
) -> ensemble.TracedSteps:
    """Return the traced steps of one task, since they contain its loss."""
    return ensemble.TracedSteps(compiled=compiled)
