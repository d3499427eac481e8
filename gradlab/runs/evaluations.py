"""Evaluations of a run in the plain loop: when they are due, where they go, and the loss over all training batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab import tasks
from gradlab.engines.evaluating import Evaluator
from gradlab.errors import shortened
from gradlab.rows import TRAINING_SET_LOSS, Evaluation
from gradlab.runs.job import TASK_ERRORS, Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.engines.cursor import Cursor
    from gradlab.experiment import Experiment


def is_evaluated(experiment: Experiment, task: tasks.Task) -> bool:
    """Return whether runs of the task are evaluated between steps."""
    return task.validation is not None or bool(task.metrics) or experiment.evaluate_every is not None


class RunEvaluations:
    """Evaluates the only run of a job.

    Attributes:
        due: whether the run is evaluated between steps.
        last: the last evaluation; None before the first.
    """

    def __init__(self, job: Job, task: tasks.Task, cursor: Cursor, *, is_resumed: bool) -> None:
        """Evaluate this task each time that the cursor calls for it.

        Raises:
            TaskError: a metric is neither a number nor a pair (sum, count), or there are no batches.
        """
        experiment = job.experiment
        self.due = is_evaluated(experiment, task)
        self.last: Evaluation | None = None
        self._job, self._cursor = job, cursor
        self._evaluator = Evaluator(task, experiment.steps)
        self._log: Callable[[int, Evaluation], object] = lambda _run, _evaluation: None
        if not self.due:
            return
        if not is_resumed:
            self._evaluator.check()
        cursor.evaluate_every, cursor.epoch_length = experiment.evaluate_every, tasks.epoch_length(task.batches)
        cursor.on_evaluation = self._evaluate

    def send(self, log: Callable[[int, Evaluation], object]) -> None:
        """Log evaluations with this function."""
        self._log = log

    def training_set_loss(self) -> float | None:
        """Return the mean loss over the training batches at the end; None, with a message, if computing it raises."""
        last, ended_at = self.last, self._cursor.step
        if last and last.step == ended_at and TRAINING_SET_LOSS in last.values:
            return last.values[TRAINING_SET_LOSS]
        try:
            return self._evaluator.training_set_loss()
        except TASK_ERRORS as error:  # from the user's loss: the run itself is done
            why = shortened(str(error).partition("\n")[0], 100)
            self._job.notify(f"training_set_loss is unknown: {type(error).__name__}: {why}")
            return None

    def _evaluate(self, epochs: int) -> None:
        cursor = self._cursor
        self.last = Evaluation(cursor.step, cursor.update, epochs, self._evaluator.evaluate())
        self._log(0, self.last)
