"""Sweeps: thousands of runs over a grid of settings.

`axes` parses what varies, `grid` builds the runs, and `numbering` numbers them. `cells` groups runs that train
together, `stacked` plans and stacks them, and `training` trains one cell. `workers` trains cells on this machine,
`cluster` and `shipping` on others. `running` reuses finished cells and records new ones.
"""

from gradlab.sweeps.axes import Axis
from gradlab.sweeps.cells import LOOP_CHUNK, Cell, LoadedCell, cell_of, cells_of
from gradlab.sweeps.grid import DEFAULT_ENGINE, ENGINES, Grid, check_place, grid_of
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
    "check_place",
    "grid_of",
    "numbering_of",
    "run",
    "settings_of",
    "train_cell",
    "train_in_process",
]
