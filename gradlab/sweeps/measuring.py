"""What a sweep records of its runs besides training losses: evaluations, and the loss over the training set."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from gradlab import tasks
from gradlab.engines.cursor import Cursor
from gradlab.rows import TRAINING_SET_LOSS, lower_is_better
from gradlab.runs.evaluations import RunEvaluations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradlab.engines.ensemble import StackedTraining
    from gradlab.experiment import Experiment
    from gradlab.rows import Evaluation

# Batches of training_set_loss per training step. A loss takes about 0.6 of a step, so it adds about 10 % at most.
BATCHES_PER_STEP = 1 / 6


class Measured(NamedTuple):
    """What was measured of runs that trained together.

    Attributes:
        columns: per run, its values by name: training_set_loss, and last_NAME and best_NAME of every evaluated NAME.
        batches: how many batches training_set_loss is the mean of, and how many `gradlab run` would use.
    """

    columns: list[dict[str, float]]
    batches: tuple[int, int]


class Measuring:
    """Evaluates the runs of a training that starts, and collects what the sweep records.

    Attributes:
        cursor: the position of the training.
    """

    def __init__(self, experiment: Experiment, task: tasks.Task, stack: StackedTraining | None = None) -> None:
        """Evaluate the single run of this task, or the runs of this stack.

        Raises:
            TaskError: a metric is neither a number nor a pair (sum, count), or there are no batches.
        """
        self.cursor = Cursor() if stack is None else stack.cursor
        self._task = task
        self._logged: list[list[Evaluation]] = [[] for _ in range(1 if stack is None else len(stack.stack.members))]
        self._evaluations = RunEvaluations(experiment, task, self.cursor, lambda _: None, stack=stack)
        self._evaluations.send(lambda run, evaluation: self._logged[run].append(evaluation))

    def finished(self) -> Measured:
        """Return what was measured, at the end of the training."""
        steps = self.cursor.step
        every = min(tasks.epoch_length(self._task.batches) or steps, steps)
        used = every if self._evaluations.has_training_set_loss else min(every, max(1, int(steps * BATCHES_PER_STEP)))
        losses = self._evaluations.training_set_losses(used)
        columns = [
            ({} if loss is None else {TRAINING_SET_LOSS: loss}) | last_and_best([each.values for each in logged])
            for loss, logged in zip(losses, self._logged, strict=True)
        ]
        return Measured(columns, (used, every))


def last_and_best(evaluations: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return last_NAME and best_NAME of every name in these evaluations of a run.

    The best is the lowest of a name that ends in loss or error, else the highest. NaN is never the best of others.
    """
    found = {}
    for name in dict.fromkeys(name for values in evaluations for name in values):
        values = [each[name] for each in evaluations if name in each]
        best = min if lower_is_better(name) else max
        found[f"last_{name}"] = values[-1]
        found[f"best_{name}"] = best((each for each in values if not math.isnan(each)), default=math.nan)
    return found
