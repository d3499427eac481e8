"""The start that all runs of a seed share: initial weights, first batches and the quadratic, found once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import tasks
from gradlab.analysis import quadratic
from gradlab.errors import UnfairTaskError
from gradlab.wording import option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradlab.experiment import Experiment
    from gradlab.runs.plan import RunPlan


class SeedStart(NamedTuple):
    """The common start of all runs of a seed."""

    start: tasks.Start
    quadratic: dict[str, Any] | None  # in the form of the record


class SeedStarts:
    """The starts of an experiment's runs.

    Attributes:
        found: the starts found so far, by seed.
    """

    def __init__(self, experiment: Experiment, plans: Sequence[RunPlan]) -> None:
        self.found: dict[int, SeedStart] = {}
        self._experiment = experiment
        self._done = [plan for plan in plans if plan.done]

    def of(self, plan: RunPlan) -> SeedStart:
        """Return the start of the plan's seed.

        Raises:
            UnfairTaskError: two builds of the task start from different weights or batches.
        """
        if plan.seed not in self.found:
            start = tasks.start_of(self._experiment.task_name, plan.seed, self._experiment.task_options)
            self.found[plan.seed] = SeedStart(start, self._quadratic(plan.seed, start, plan.settings))
        return self.found[plan.seed]

    def check_finished_runs(self, plan: RunPlan) -> None:
        """Check that finished runs of the same seed had the same start; another version of torch may change it.

        Raises:
            UnfairTaskError: a finished run had another start.
        """
        start = self.of(plan).start
        for other in (done.folder for done in self._done if done.seed == plan.seed):
            record = other.read()
            if (record.weights, record.first_batch) != (start.weights, start.batches[0]):
                versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
                raise UnfairTaskError(
                    f"{other.path} (trained with {versions}) started from other weights or batches\n"
                    f"new runs cannot be compared with it; {option('fresh')} retrains all"
                )

    def _quadratic(self, seed: int, start: tasks.Start, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the quadratic loss to record; {} if the loss is not quadratic, None if theory does not apply.

        It is measured in a separate task, since measuring draws batches and random numbers.
        """
        if quadratic.why_no_theory(settings):
            return None
        if len(start.batches) > 1:
            return {}
        try:
            built = tasks.build(self._experiment.task_name, seed, self._experiment.task_options)
        except Exception:  # from the user's task: building it for training reports the error
            return {}
        found = quadratic.measure(built)
        return found._asdict() if found else {}
