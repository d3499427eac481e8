"""The runs of an experiment: what is done already is kept, the rest is trained, logged and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab import modes, optimizers, store, tasks
from gradlab.analysis.results import Outcome, checked, result_of
from gradlab.engines import tensorflow
from gradlab.errors import ExperimentError, GradlabError
from gradlab.experiment import Experiment, identity, place_of
from gradlab.runs.lifecycle import Begin, Plan, Stop, StoppedError, Watcher, mode_names
from gradlab.runs.single_run import train_run
from gradlab.runs.stacked_runs import Together
from gradlab.startup import import_torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from gradlab.analysis.results import Result
    from gradlab.store import RunFolder


def plan(experiment: Experiment, folder: store.ExperimentFolder, *, fresh: bool = False) -> list[Plan]:
    """Return the runs of the experiment, modes first, and say which are done."""
    plans = []
    for mode in experiment.parsed_modes:
        for seed in experiment.seeds:
            settings = experiment.settings(mode, seed)
            run = folder.run(mode.name, seed, identity(settings))
            done = not fresh and _is_done(run, settings)
            plans.append(Plan(mode, seed, settings, run, done, fresh))
    return plans


def run(
    experiment: Experiment,
    out: Path = store.RUNS,
    *,
    fresh: bool = False,
    watcher: Watcher | None = None,
    stop: Stop | None = None,
) -> Outcome:
    """Run all modes and seeds of `experiment` under `out`; those done before are read, not trained, unless `fresh`.

    A run that was interrupted goes on from its last checkpoint. One whose task raises fails and lets the others go on.

    Raises:
        StoppedError: `stop` was asked for; what was logged is on the disk, and a checkpoint with it.
        GradlabError: what a user can fix: the folder, the task, its options, the optimizer, the device.
    """
    if experiment.vary:
        place, keys = place_of(experiment, "vary"), ", ".join(experiment.vary)
        raise ExperimentError(f"{place}experiment '{experiment.name}' varies {keys}: it is one for `gradlab sweep`")
    folder = store.experiment_folder(out, experiment.name)
    plans = plan(experiment, folder, fresh=fresh)
    if not all(each.done for each in plans):
        try:
            prepare(experiment)
        except GradlabError:
            folder.drop_if_empty()
            raise
    else:
        folder.note_asked([each.folder for each in plans], mode_names(experiment), match_lr=experiment.match_lr)
    results: dict[Path, Result] = {}
    for each in _trained(experiment, plans, watcher, stop or Stop()):
        result = results[each.folder.path] = result_of(each.folder, cached=each.done)
        if watcher:
            watcher.ends(result)
    found = [results[each.folder.path] for each in plans]
    return Outcome(experiment.name, experiment.title, folder.path, found, list(checked(experiment.expect, found)))


def _trained(experiment: Experiment, plans: list[Plan], watcher: Watcher | None, stop: Stop) -> Iterator[Plan]:
    """Yield each run when it is done, failed or was done before: those that are trained at once before all others."""
    begins: dict[int, Begin] = {}

    def others(plan: Plan) -> list[RunFolder]:
        return [other.folder for other in plans if other.done and other.seed == plan.seed]

    together = set()
    if experiment.engine == "ensemble":
        for each in _trained_together(Together(experiment, begins, watcher, stop), plans, others):
            together.add(each.folder.path)
            yield each
    for each in plans:
        if each.folder.path in together:
            continue
        _go_on_unless(stop)
        if each.done:
            each.folder.clear_leavings()
        else:
            train_run(experiment, each, begins, others(each), watcher, stop)
        yield each


def _trained_together(
    engine: Together, plans: list[Plan], others: Callable[[Plan], list[RunFolder]]
) -> Iterator[Plan]:
    """Yield each run that was trained in a stack when that is done; say why the others are not."""
    said = set()
    for stack in engine.stacks([each for each in plans if not each.done]):
        _go_on_unless(engine.stop)
        left = engine.train(stack, others)
        if left.reason and left.reason not in said:
            said.add(left.reason)
            engine.say(f"trained one by one, by the plain loop: {left.reason}")
        yield from (each for each in stack if each not in left.plans)


def _go_on_unless(stop: Stop) -> None:
    if stop.asked:
        raise StoppedError("stopped between two runs; the same command trains what is missing")


def prepare(experiment: Experiment) -> None:
    """Find out before the first run whether the engine, the task, the device and the optimizer can be had.

    Raises:
        GradlabError: one of them cannot.
    """
    if experiment.engine == "tensorflow":
        tensorflow.start(experiment.threads)
    import_torch()
    import torch

    torch.set_num_threads(experiment.threads)  # results depend on it: part of the settings
    tasks.check_options(experiment.task_name, experiment.task_options)
    for mode in experiment.parsed_modes:
        modes.load(mode)
    try:
        torch.empty(0, device=experiment.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        if reason.startswith(("Expected one of", "Could not run")):  # and then some twenty devices, or as many lines
            reason = "torch knows no such device, or was not built for it"
        raise ExperimentError(f"device '{experiment.device}' is not to be had here: {reason}") from None
    optimizers.build(experiment.optimizer.name, [torch.nn.Parameter(torch.zeros(1, 1))], experiment.optimizer.options)


def _is_done(run: RunFolder, settings: Mapping[str, Any]) -> bool:
    """Say whether the run is there whole: its record says done, and no row is missing."""
    try:
        record = run.read()
        return record.status == "done" and record.settings == settings and not run.lacks(record)
    except GradlabError:
        return False
