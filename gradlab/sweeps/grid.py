"""The grid of a sweep: a checked experiment with axes, modes and seeds, and the runs they define."""

from __future__ import annotations

import math
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import experiment as experiments
from gradlab.errors import ExperimentError, GradlabError, raise_together, unknown
from gradlab.experiment import RULE_KEYS, check_rule
from gradlab.sweeps.axes import MOST_RUNS, Axis, axes_of
from gradlab.sweeps.numbering import Run, decode, mode_at
from gradlab.wording import either

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gradlab.experiment import Experiment, Override
    from gradlab.modes import Mode

ENGINES = ("loop", "ensemble")  # available for sweeps
DEFAULT_ENGINE = "ensemble"


class Grid(NamedTuple):
    """Everything that decides the runs of a sweep, as plain data that can be sent to other processes.

    Attributes:
        experiment: the checked experiment as plain values, without the varied settings.
        folder: the folder of its file, searched first for a user's task.
        engine: the training engine.
        axes: the varied settings.
        modes: the modes, not loaded; empty if keep or every varies, since these define the mode.
        seeds: the seeds.
        compiled: whether the step is compiled; decided when the sweep starts, and kept in its record.
    """

    experiment: dict[str, Any]
    folder: str | None
    engine: str
    axes: tuple[Axis, ...]
    modes: tuple[Mode, ...]
    seeds: tuple[int, ...]
    compiled: bool = False

    @property
    def runs(self) -> int:
        """The number of runs."""
        return math.prod(len(axis.values) for axis in self.axes) * max(1, len(self.modes)) * len(self.seeds)

    @property
    def mode_names(self) -> list[str]:
        """The names of the modes in the experiment."""
        return list(self.experiment["modes"]) if self.modes else []

    def run(self, number: int) -> Run:
        """Return the run with this number."""
        axes = {axis.key: axis.values for axis in self.axes}
        return Run(number, *decode(number, axes, self.modes, self.seeds))

    def experiment_at(self, values: Sequence[Any], flag: str = "", *, partial: bool = False) -> Experiment:
        """Return the experiment at a point of the grid, with the modes of that point.

        With `partial`, it may lack options that other axes set.

        Raises:
            GradlabError: the experiment is invalid; the message names `flag`.
        """
        changed: dict[tuple[str, ...], Any] = {
            axis.path: value for axis, value in zip(self.axes, values, strict=True) if axis.key not in RULE_KEYS
        }
        point = {axis.key: value for axis, value in zip(self.axes, values, strict=True)}
        changed["modes",] = self.mode_names or [mode_at(point).name]
        folder = Path(self.folder) if self.folder else None
        return experiments.from_plain(self.experiment, folder, changed, flag, partial=partial)

    def points(self) -> Iterator[tuple[Any, ...]]:
        """Yield the points of the grid as tuples of axis values."""
        return product(*(axis.values for axis in self.axes))

    def points_of_training(self) -> Iterator[tuple[Any, ...]]:
        """Yield the points to check before training: one keep is enough, unless keep also sets the lr."""
        one = not self.experiment["match_lr"]
        return product(*(axis.values[:1] if axis.key == "keep" and one else axis.values for axis in self.axes))


def grid_of(
    experiment: Experiment,
    vary: Iterable[str] | Mapping[str, object] = (),
    *,
    engine: str | None = None,
    overrides: Iterable[Override] = (),
) -> Grid:
    """Return the grid of an experiment with the axes of its file and of the caller.

    Args:
        experiment: a checked experiment.
        vary: the values of --vary, `KEY=RANGE`, or a range or a list of values by key. Each replaces the file's axis
            with the same key.
        engine: the training engine; None for the experiment's own, or the fastest.
        overrides: what the caller set in the experiment; if that includes the modes, keep and every must not vary.

    Raises:
        GradlabError: nothing varies, an axis or value is invalid, or the experiment logs what sweeps do not.
    """
    if experiment.log:
        remove = either("--set log=[]", "log=[]")
        raise ExperimentError(
            f"log = {experiment.log}: a sweep does not log {' and '.join(experiment.log)}; "
            f"use {either('gradlab run', 'gradlab.run')}, or {remove} to sweep without"
        )
    axes, subjects = axes_of(experiment, vary)
    if not axes:
        raise ExperimentError(
            "nothing varies: a sweep needs "
            + either("--vary KEY=RANGE, such as --vary lr=1e-3:4:33:log,", 'vary={"lr": "1e-3:4:33:log"}')
            + " or [vary] in its file"
        )
    ruled = [key for key in RULE_KEYS if key in axes]
    modes_by = next((each.flag for each in overrides if each.key == ("modes",)), "")
    if ruled and modes_by:
        fixed = either("--vary every=4", 'vary={"every": 4}')
        raise ExperimentError(
            f"{subjects[ruled[0]]} sets the modes and cannot be combined with {modes_by}; "
            f"to fix keep or every, give it a single value, such as {fixed}"
        )
    if engine is None and "engine" in experiment.model_fields_set:
        engine = experiment.engine
    engine = engine or DEFAULT_ENGINE
    if engine not in ENGINES:
        raise ExperimentError(unknown("sweep engine", engine, ENGINES))
    folder, plain = experiment.folder, experiments.to_plain(experiment)
    if axes.keys() - axes_of(experiment, ())[0].keys():  # the title does not speak of the axes added
        plain["title"] = ""
    grid = Grid(
        plain, str(folder.absolute()) if folder else None, engine,
        tuple(axes.values()), () if ruled else tuple(experiment.parsed_modes), tuple(experiment.seeds),
    )  # fmt: skip
    _check(grid, subjects)
    return grid


def check_place(workers: int | None, dask: str | None) -> None:
    """Raise ExperimentError if both a number of processes and a cluster are given."""
    if workers is not None and dask is not None:
        here, there = either("--workers", "workers"), either("--dask", "dask")
        raise ExperimentError(
            f"{here} and {there} exclude each other: {here} trains on this machine, {there} on a cluster"
        )


def _check(grid: Grid, subjects: Mapping[str, str]) -> None:
    """Raise a GradlabError if there are too many runs, or if a value or point is invalid."""
    if grid.runs > MOST_RUNS:
        raise ExperimentError(f"{grid.runs:,} runs are too many for one sweep; at most {MOST_RUNS:,}")
    faults: list[GradlabError] = []
    for axis in grid.axes:
        alone = grid._replace(axes=(axis,))
        try:
            for value in axis.values:
                with _naming(subjects[axis.key]):
                    check_rule(axis.key, value)
                    alone.experiment_at((value,), subjects[axis.key], partial=len(grid.axes) > 1)
        except GradlabError as error:
            faults.append(error)  # the first error of the axis
    raise_together(faults, ExperimentError)
    if len(grid.axes) > 1:
        together = " and ".join(subjects.values())
        for values in grid.points_of_training():
            with _naming(together):
                grid.experiment_at(values, together)


@contextmanager
def _naming(subject: str) -> Iterator[None]:
    """Prefix error messages with the subject, unless they start with it."""
    try:
        yield
    except GradlabError as error:
        if str(error).startswith(subject):
            raise
        raise type(error)(f"{subject}: {error}") from None
