"""Sweeps: a thousand runs at once, over a grid of what varies.

`grid` says what varies and numbers the runs; `cells` cuts them into those that are trained together, and trains them;
`executors` says where; `running` keeps what is there, and records what is trained.
"""

from gradlab.sweep.cells import CHUNKS, TOGETHER, Cell, cells_of, train_cell
from gradlab.sweep.executors import Ended, Executor, Workers, here
from gradlab.sweep.grid import DEFAULT_ENGINE, ENGINES, Axis, Grid, grid_of
from gradlab.sweep.running import Outcome, Watcher, run, settings_of

__all__ = [
    "CHUNKS",
    "DEFAULT_ENGINE",
    "ENGINES",
    "TOGETHER",
    "Axis",
    "Cell",
    "Ended",
    "Executor",
    "Grid",
    "Outcome",
    "Watcher",
    "Workers",
    "cells_of",
    "grid_of",
    "here",
    "run",
    "settings_of",
    "train_cell",
]
