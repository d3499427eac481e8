"""A cell: runs that are trained together, as an engine is given them, and the steps that it yields of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradlab import tasks
    from gradlab.experiment import Experiment
    from gradlab.modes import Mode


class Cell(NamedTuple):
    """What an engine that trains runs together is given.

    Attributes:
        experiments: of each run; they differ in what is kept and in options of the optimizer alone.
        modes: of each run, loaded; they differ in name and keep alone.
        seeds: of each run; those of one seed stand together.
        build: returns the task of a seed, anew at each call, every generator seeded, on its device; its batches are
            held against those of the other runs of that seed as they are drawn for the first time.
        compiled: whether its step is to be compiled.
    """

    experiments: list[Experiment]
    modes: list[Mode]
    seeds: list[int]
    build: Callable[[int], tasks.Task]
    compiled: bool = False

    @property
    def experiment(self) -> Experiment:
        """What all of them have in common: task, name of the optimizer, end, device."""
        return self.experiments[0]


class Step(NamedTuple):
    """A step of all runs of a cell.

    Attributes:
        update: updates before it.
        epoch: passes over the batches before it.
        losses: of each run.
        items: of each run, how many its loss is the mean of, where the task tells.
    """

    update: int
    epoch: int
    losses: Sequence[float]
    items: Sequence[float] | None = None
