"""Train many runs at once: the loop of `gradlab.engines.loop` on stacked parameters.

The first dimension of every stacked parameter is the run. The losses of the runs are independent, so the gradient of
their sum contains every run's gradient in its slice of `.grad`. The rule is the same, with `keep` as a tensor. Torch's
optimizers work unchanged if they treat every element separately, as most do. `stackability` finds the runs that cannot
be stacked; `gradlab.engines.loop` trains them.
"""

from gradlab.engines.ensemble.batches import CannotStackError, SeedTask
from gradlab.engines.ensemble.checkpoints import is_stacked, restore, snapshots
from gradlab.engines.ensemble.evaluating import StackedEvaluator
from gradlab.engines.ensemble.loop import StackedStep, StackedTraining, train
from gradlab.engines.ensemble.stack import Member, Stack
from gradlab.engines.ensemble.stackability import Stackability, can_join, stackability_of, unstackable_reason
from gradlab.engines.ensemble.traced_step import TracedSteps

__all__ = [
    "CannotStackError",
    "Member",
    "SeedTask",
    "Stack",
    "Stackability",
    "StackedEvaluator",
    "StackedStep",
    "StackedTraining",
    "TracedSteps",
    "can_join",
    "is_stacked",
    "restore",
    "snapshots",
    "stackability_of",
    "train",
    "unstackable_reason",
]
