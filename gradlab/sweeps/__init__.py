"""Sweeps: a thousand runs at once, over a grid of what varies.

`grid` says what varies and numbers the runs; `cells` cuts them into those that are trained together, and trains them;
`executors` says where; `running` keeps what is there, and records what is trained.
"""

from gradlab.sweeps.cell import Cell, Step
from gradlab.sweeps.cells import LOOP_CHUNK, TOGETHER, cells_of, train_cell
from gradlab.sweeps.grid import DEFAULT_ENGINE, ENGINES, Axis, Grid, grid_of
from gradlab.sweeps.running import Outcome, Watcher, run, settings_of
from gradlab.sweeps.workers import Ended, Executor, Workers, here

__all__ = [
    "DEFAULT_ENGINE",
    "ENGINES",
    "LOOP_CHUNK",
    "TOGETHER",
    "Axis",
    "Cell",
    "Ended",
    "Executor",
    "Grid",
    "Outcome",
    "Step",
    "Watcher",
    "Workers",
    "cells_of",
    "grid_of",
    "here",
    "run",
    "settings_of",
    "train_cell",
]
