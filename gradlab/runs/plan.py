"""The plan of an experiment: its runs, whether they are done, and their first records."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import __version__, store
from gradlab.engines import tensorflow
from gradlab.errors import GradlabError
from gradlab.experiment import identity
from gradlab.store import RunRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradlab.experiment import Experiment
    from gradlab.modes import Mode
    from gradlab.store import ExperimentFolder, RunFolder

MOST_MODES = 100  # listed in the record of every run


class RunPlan(NamedTuple):
    """A run of an experiment, finished or not."""

    mode: Mode
    seed: int
    settings: Mapping[str, Any]
    folder: RunFolder
    done: bool  # finished earlier, with the same settings
    fresh: bool = False  # to be trained from the start, even if it could be resumed

    @property
    def title(self) -> str:
        """The name of the run in messages."""
        return f"{self.mode.name} seed {self.seed}"


def plan_runs(experiment: Experiment, folder: ExperimentFolder, *, fresh: bool = False) -> list[RunPlan]:
    """Return the runs of the experiment, ordered by mode, then seed. With `fresh`, no run counts as done."""
    plans = []
    for mode in experiment.parsed_modes:
        for seed in experiment.seeds:
            settings = experiment.settings(mode, seed)
            run = folder.run(mode.name, seed, identity(settings))
            plans.append(RunPlan(mode, seed, settings, run, not fresh and _is_done(run, settings), fresh))
    return plans


def new_record(experiment: Experiment, plan: RunPlan) -> RunRecord:
    """Return the record of a run that starts or resumes."""
    return RunRecord(
        experiment=experiment.name,
        title=experiment.title,
        mode=plan.mode.name,
        seed=plan.seed,
        identity=identity(plan.settings),
        settings=dict(plan.settings),
        status="running",
        versions=versions_of(experiment),
        started=store.now(),
        modes=mode_names(experiment),
        match_lr=experiment.match_lr,
    )


def mode_names(experiment: Experiment) -> list[str]:
    """Return the modes in display order, at most 100, since every run records them."""
    return [mode.name for mode in experiment.parsed_modes[:MOST_MODES]]


def versions_of(experiment: Experiment) -> dict[str, str]:
    """Return the versions that the rows of a run depend on."""
    import torch

    versions = {"gradlab": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
    if experiment.engine == "tensorflow":
        versions["tensorflow"] = tensorflow.start(experiment.threads).__version__
    return versions


def _is_done(run: RunFolder, settings: Mapping[str, Any]) -> bool:
    """Return whether the run is recorded as done with these settings, with all rows intact."""
    try:
        record, _ = run.verified_record(run.read())
    except GradlabError:
        return False
    return record.status == "done" and record.settings == settings
