"""Many runs trained at once: the loop of `training`, over parameters that are stacked.

The parameters of all runs stand in one tensor each, whose first dimension is the runs. The losses are independent, so
the gradient of their sum holds each run's own gradient in its slice of `.grad`; the rule is the same, with `keep` as a
tensor; and the optimizers are torch's own, since most of them treat each element by itself. What cannot be stacked is
told by `obstacle`, and is trained by the plain loop.
"""

from gradlab.ensemble.drawing import CannotStackError, World
from gradlab.ensemble.rehearsal import Rehearsal, obstacle, obstacle_before, obstacle_of, rehearsed
from gradlab.ensemble.saving import marked, restore, snapshots
from gradlab.ensemble.stack import Member, Stack
from gradlab.ensemble.traced import TracedSteps
from gradlab.ensemble.training import Losses, Training, train

__all__ = [
    "CannotStackError",
    "Losses",
    "Member",
    "Rehearsal",
    "Stack",
    "TracedSteps",
    "Training",
    "World",
    "marked",
    "obstacle",
    "obstacle_before",
    "obstacle_of",
    "rehearsed",
    "restore",
    "snapshots",
    "train",
]
