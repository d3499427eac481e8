"""Evaluations of runs: when they are due, where they go, and the loss over all training batches at the end."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from gradlab import tasks
from gradlab.engines.ensemble import StackedEvaluator
from gradlab.engines.evaluating import Evaluator
from gradlab.errors import ExperimentError, StoreError, nearest, shortened
from gradlab.experiment import location_of
from gradlab.rows import TRAINING_SET_LOSS, Evaluation
from gradlab.runs.job import TASK_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gradlab.engines.cursor import Cursor
    from gradlab.engines.ensemble import StackedTraining
    from gradlab.experiment import Experiment
    from gradlab.runs.plan import RunPlan


def is_evaluated(experiment: Experiment, task: tasks.Task) -> bool:
    """Return whether runs of the task are evaluated between steps."""
    return task.validation is not None or bool(task.metrics) or experiment.evaluate_every is not None


class RunEvaluations:
    """Evaluates one run, or the runs of a stack.

    Attributes:
        due: whether the runs are evaluated between steps.
        last: the last evaluation of each run; empty before the first.
    """

    def __init__(
        self,
        experiment: Experiment,
        task: tasks.Task,
        cursor: Cursor,
        notify: Callable[[str], object],
        *,
        is_resumed: bool = False,
        stack: StackedTraining | None = None,
    ) -> None:
        """Evaluate this task, or the runs of this stack, each time that the cursor calls for it.

        Raises:
            TaskError: a metric is neither a number nor a pair (sum, count), or there are no batches.
        """
        self.due = is_evaluated(experiment, task)
        self.last: list[Evaluation] = []
        self._cursor, self._notify = cursor, notify
        self._runs = 1 if stack is None else len(stack.stack.members)
        self._evaluator = Evaluator(task, experiment.steps)
        self._stacked = None if stack is None else StackedEvaluator(stack, experiment.steps)
        self._log: Callable[[int, Evaluation], object] = lambda _run, _evaluation: None
        if not self.due:
            return
        if not is_resumed:
            self._warn_of_changes(self._evaluator.check())
        cursor.evaluate_every, cursor.epoch_length = experiment.evaluate_every, tasks.epoch_length(task.batches)
        cursor.on_evaluation = self._evaluate

    def _warn_of_changes(self, names: list[str]) -> None:
        if names:
            found = ", ".join(names)
            self._notify(
                f"two evaluations of one batch differ in {found}: state that is not restored may change the training; "
                "keep it in a buffer or a closure"
            )

    def send(self, log: Callable[[int, Evaluation], object]) -> None:
        """Log the evaluations of each run, by its number, with this function."""
        self._log = log

    @property
    def has_training_set_loss(self) -> bool:
        """Whether the last evaluation, at the end of the training, has the loss over the training batches."""
        return bool(self.last) and self.last[0].step == self._cursor.step and TRAINING_SET_LOSS in self.last[0].values

    def training_set_losses(self, most: int | None = None) -> list[float | None]:
        """Return the mean loss of each run over the training batches at the end.

        If computing it raises, return None for all, with a message.

        Args:
            most: the number of batches, at most. Default: all, or as many as were trained.
        """
        if self.has_training_set_loss:
            return [each.values[TRAINING_SET_LOSS] for each in self.last]
        try:
            if self._stacked:
                return list(self._stacked.training_set_loss(most))
            return [self._evaluator.training_set_loss(most=most)]
        except TASK_ERRORS as error:  # from the user's loss: the run itself is done
            why = shortened(str(error).partition("\n")[0], 100)
            self._notify(f"training_set_loss is unknown: {type(error).__name__}: {why}")
            return [None] * self._runs

    def check_expected(self, experiment: Experiment) -> None:
        """Raise ExperimentError if the experiment expects a value that the task does not measure."""
        _check_expected(experiment, self._evaluator.names if self.due else ())

    def _evaluate(self, epochs: int) -> None:
        cursor = self._cursor
        found = self._stacked.evaluate() if self._stacked else [self._evaluator.evaluate()]
        self.last = [Evaluation(cursor.step, cursor.update, epochs, values) for values in found]
        for nth, evaluation in enumerate(self.last):
            self._log(nth, evaluation)


def check_expected_of(experiment: Experiment, finished: Iterable[RunPlan]) -> None:
    """Raise ExperimentError if the experiment expects a value that a finished run with evaluations does not have."""
    if not any(expected.measured for expected in experiment.expect.values()):
        return
    for plan in finished:
        with suppress(StoreError):  # reading the run reports it
            for evaluation in plan.folder.evaluations().evaluations[-1:]:
                _check_expected(experiment, evaluation.values)


def _check_expected(experiment: Experiment, names: Iterable[str]) -> None:
    known = dict.fromkeys([*names, TRAINING_SET_LOSS])
    for mode, expected in experiment.expect.items():
        for name in expected.measured:
            if name not in known:
                near = nearest(name, known)
                guess = f"; did you mean '{near}'?" if near else "."
                place = location_of(experiment, "expect", mode, name)
                raise ExperimentError(
                    f"{place}expect.{mode}.{name}: task '{experiment.task_name.name}' does not measure it{guess} "
                    f"Measured: {', '.join(known)}"
                )
