"""Many runs trained at once: the loop of `training`, over parameters that are stacked.

The parameters of all runs stand in one tensor each, whose first dimension is the runs. The losses are independent, so
the gradient of their sum holds each run's own gradient in its slice of `.grad`; the rule is the same, with `keep` as a
tensor; and the optimizers are torch's own, since most of them treat each element by itself. What cannot be stacked is
told by `obstacle`, and is trained by the plain loop.
"""

from gradlab.engines.ensemble.batches import CannotStackError, World
from gradlab.engines.ensemble.checkpoints import marked, restore, snapshots
from gradlab.engines.ensemble.loop import Losses, Training, train
from gradlab.engines.ensemble.stack import Member, Stack
from gradlab.engines.ensemble.stackability import Rehearsal, obstacle, obstacle_before, obstacle_of, rehearsed
from gradlab.engines.ensemble.traced_step import TracedSteps

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
