"""The grid of a sweep: an experiment, its axes, modes and seeds, checked, and the runs that makes."""

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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gradlab.experiment import Experiment
    from gradlab.modes import Mode

ENGINES = ("loop", "ensemble")  # that train sweeps
DEFAULT_ENGINE = "ensemble"


class Grid(NamedTuple):
    """All that decides the runs of a sweep, in plain data: it goes to other processes as it is.

    Attributes:
        experiment: the checked experiment in plain values, without what varies.
        folder: of its file, where a user's task is looked for first.
        engine: what trains.
        axes: what varies.
        modes: of the runs, not loaded; none where keep or every vary, which make the mode then.
        seeds: of the runs.
        compiled: whether the step is compiled, which is found when a sweep begins and stands in its record.
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
        """How many runs there are."""
        return math.prod(len(axis.values) for axis in self.axes) * max(1, len(self.modes)) * len(self.seeds)

    @property
    def mode_names(self) -> list[str]:
        """The modes as the experiment names them."""
        return list(self.experiment["modes"]) if self.modes else []

    def run(self, number: int) -> Run:
        """Return the run of that number."""
        axes = {axis.key: axis.values for axis in self.axes}
        return Run(number, *decode(number, axes, self.modes, self.seeds))

    def experiment_at(self, values: Sequence[Any], flag: str = "") -> Experiment:
        """Return the experiment at a point, its modes those of the point.

        Raises:
            GradlabError: it does not hold; the message names `flag`.
        """
        changed: dict[tuple[str, ...], Any] = {
            axis.path: value for axis, value in zip(self.axes, values, strict=True) if axis.key not in RULE_KEYS
        }
        point = {axis.key: value for axis, value in zip(self.axes, values, strict=True)}
        changed["modes",] = self.mode_names or [mode_at(point).name]
        return experiments.from_plain(self.experiment, Path(self.folder) if self.folder else None, changed, flag)

    def points(self) -> Iterator[tuple[Any, ...]]:
        """Yield the points of the grid, each as the values of the axes."""
        return product(*(axis.values for axis in self.axes))

    def points_of_training(self) -> Iterator[tuple[Any, ...]]:
        """Yield the points that differ in more than keep: that trains anywhere, unless it sets the lr."""
        one = not self.experiment["match_lr"]
        return product(*(axis.values[:1] if axis.key == "keep" and one else axis.values for axis in self.axes))


def grid_of(
    experiment: Experiment, flags: Iterable[str] = (), *, engine: str | None = None, modes_by: str = ""
) -> Grid:
    """Return the grid of an experiment: what its file varies, and what the command line does, `KEY=RANGE` each.

    Args:
        experiment: a checked one.
        flags: as after --vary; one takes the place of the file's axis of the same key.
        engine: what trains; None for the experiment's own, or the one that trains most runs a second.
        modes_by: the flag by which the command line chooses modes, which must not vary then.

    Raises:
        GradlabError: nothing varies, or an axis or a value does not hold.
    """
    axes, subjects = axes_of(experiment, flags)
    if not axes:
        raise ExperimentError(
            "nothing varies: a sweep needs --vary KEY=RANGE, such as --vary lr=1e-3:4:33:log, or [vary] in its file"
        )
    ruled = [key for key in RULE_KEYS if key in axes]
    if ruled and modes_by:
        raise ExperimentError(
            f"{subjects[ruled[0]]} makes the modes itself: leave {modes_by} out, or {ruled[0]}; "
            "keep and every may have a single value each, such as --vary every=4"
        )
    if engine is None and "engine" in experiment.model_fields_set:
        engine = experiment.engine
    engine = engine or DEFAULT_ENGINE
    if engine not in ENGINES:
        raise ExperimentError(unknown("engine of a sweep:", engine, ENGINES))
    folder = experiment.folder
    grid = Grid(
        experiments.to_plain(experiment), str(folder.absolute()) if folder else None, engine,
        tuple(axes.values()), () if ruled else tuple(experiment.parsed_modes), tuple(experiment.seeds),
    )  # fmt: skip
    _check(grid, subjects)
    return grid


def _check(grid: Grid, subjects: Mapping[str, str]) -> None:
    """Raise a GradlabError where there are too many runs, or where a value or a point does not hold."""
    if grid.runs > MOST_RUNS:
        raise ExperimentError(f"{grid.runs:,} runs are too many for one sweep; at most {MOST_RUNS:,}")
    faults: list[GradlabError] = []
    for axis in grid.axes:
        alone = grid._replace(axes=(axis,))
        try:
            for value in axis.values:
                with _naming(subjects[axis.key]):
                    check_rule(axis.key, value)
                    alone.experiment_at((value,), subjects[axis.key])
        except GradlabError as error:
            faults.append(error)  # the first of the axis
    raise_together(faults, ExperimentError)
    if len(grid.axes) > 1:
        together = " and ".join(subjects.values())
        for values in grid.points_of_training():
            with _naming(together):
                grid.experiment_at(values, together)


@contextmanager
def _naming(subject: str) -> Iterator[None]:
    """Put the subject before the message of an error that does not name it."""
    try:
        yield
    except GradlabError as error:
        if str(error).startswith(subject):
            raise
        raise type(error)(f"{subject}: {error}") from None
