"""Many runs trained at once: the loop of `gradlab.engines.loop`, over parameters that are stacked.

The parameters of all runs are slices of one tensor each, whose first dimension is the runs. The losses are
independent, so the gradient of their sum holds each run's own gradient in its slice of `.grad`; the rule is the same,
with `keep` as a tensor; and the optimizers are torch's own, since most of them treat each element by itself.
`stackability` finds what cannot be stacked, and the plain loop trains it.
"""

from gradlab.engines.ensemble.batches import CannotStackError, SeedTask
from gradlab.engines.ensemble.checkpoints import is_stacked, restore, snapshots
from gradlab.engines.ensemble.loop import StackedStep, StackedTraining, train
from gradlab.engines.ensemble.stack import Member, Stack
from gradlab.engines.ensemble.stackability import Stackability, stackability_of, unstackable_reason
from gradlab.engines.ensemble.traced_step import TracedSteps

__all__ = [
    "CannotStackError",
    "Member",
    "SeedTask",
    "Stack",
    "Stackability",
    "StackedStep",
    "StackedTraining",
    "TracedSteps",
    "is_stacked",
    "restore",
    "snapshots",
    "stackability_of",
    "train",
    "unstackable_reason",
]
