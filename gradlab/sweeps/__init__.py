"""Sweeps: a thousand runs at once, over a grid of what varies.

`axes` says what varies, `grid` makes runs of it, and `numbering` numbers them. `cells` cuts them into those that are
trained together, `stacked` plans and stacks these, and `training` trains one cell. `workers` says where: here, or with
`cluster` and `shipping` on other machines. `running` keeps what is there, and records what is trained.
"""

from gradlab.sweeps.axes import Axis
from gradlab.sweeps.cells import LOOP_CHUNK, Cell, LoadedCell, cell_of, cells_of
from gradlab.sweeps.grid import DEFAULT_ENGINE, ENGINES, Grid, grid_of
from gradlab.sweeps.numbering import Run, numbering_of
from gradlab.sweeps.running import SweepResult, run, settings_of
from gradlab.sweeps.training import train_cell
from gradlab.sweeps.workers import Ended, Executor, Workers, train_in_process

__all__ = [
    "DEFAULT_ENGINE",
    "ENGINES",
    "LOOP_CHUNK",
    "Axis",
    "Cell",
    "Ended",
    "Executor",
    "Grid",
    "LoadedCell",
    "Run",
    "SweepResult",
    "Workers",
    "cell_of",
    "cells_of",
    "grid_of",
    "numbering_of",
    "run",
    "settings_of",
    "train_cell",
    "train_in_process",
]
