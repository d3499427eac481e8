"""The start that all runs of one seed share, found once a seed: initial weights, first batches, and the quadratic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import tasks
from gradlab.analysis import quadratic
from gradlab.errors import UnfairTaskError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradlab.experiment import Experiment
    from gradlab.runs.plan import RunPlan


class SeedStart(NamedTuple):
    """What all runs of one seed start with."""

    start: tasks.Start
    quadratic: dict[str, Any] | None  # as it is recorded


class SeedStarts:
    """The starts of an experiment's runs, by seed.

    Attributes:
        found: those that were found so far.
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
        """Check that the finished runs of the plan's seed had the same start; another version of torch may change it.

        Raises:
            UnfairTaskError: one had another start.
        """
        start = self.of(plan).start
        for other in (done.folder for done in self._done if done.seed == plan.seed):
            record = other.read()
            if (record.weights, record.first_batch) != (start.weights, start.batches[0]):
                versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
                raise UnfairTaskError(
                    f"{other.path} (done before, with {versions}) started from other weights or batches\n"
                    "it cannot be compared with what would be trained now; --fresh trains all again"
                )

    def _quadratic(self, seed: int, start: tasks.Start, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what to record of the task's loss: the quadratic, {} where it is none, None where theory cannot hold.

        The loss is measured in a task that is built for this only: measuring draws batches and random numbers.
        """
        if quadratic.why_no_theory(settings):
            return None
        if len(start.batches) > 1:
            return {}
        try:
            built = tasks.build(self._experiment.task_name, seed, self._experiment.task_options)
        except Exception:  # the task is the user's: the build for training will raise and report it
            return {}
        found = quadratic.measure(built)
        return found._asdict() if found else {}
