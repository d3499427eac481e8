"""Setup of a run: checks before the first run, optimizer, schedule and number of steps."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from gradlab import modes, optimizers, schedules, tasks, user_code
from gradlab.engines import tensorflow
from gradlab.engines.accumulation import update_count
from gradlab.errors import ExperimentError
from gradlab.startup import import_torch

if TYPE_CHECKING:
    from gradlab.experiment import Experiment
    from gradlab.modes import Mode
    from gradlab.optimizers import Optimizer, Scheduler

threads_at_import: list[int] = []  # of torch, once `prepare` has imported it


def prepare(experiment: Experiment) -> None:
    """Check before the first run that the engine, task, modes, device and optimizer are available.

    Raises:
        GradlabError: one of them is not available.
    """
    if experiment.engine == "tensorflow":
        tensorflow.start(experiment.threads)
    is_first = "torch" not in sys.modules
    import_torch()
    import torch

    if is_first:
        threads_at_import.append(torch.get_num_threads())
    torch.set_num_threads(experiment.threads)  # results depend on it, so it is part of the settings
    tasks.check_options(experiment.task_name, experiment.task_options)
    for mode in experiment.parsed_modes:
        modes.load(mode)
    try:
        torch.empty(0, device=experiment.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        if reason.startswith(("Expected one of", "Could not run")):  # followed by twenty devices or lines
            reason = "torch does not know this device, or was built without support for it"
        raise ExperimentError(f"device '{experiment.device}' is not available: {reason}") from None
    _prepare_optimizer(experiment)


def _prepare_optimizer(experiment: Experiment) -> None:
    """Check before the first run that the optimizer and the schedule accept their options.

    Raises:
        OptimizerError: one of them does not, or cannot be imported.
    """
    import torch

    name, options = experiment.optimizer_name, experiment.optimizer.options
    optimizers.check_options(name, options)
    optimizer = optimizers.build(name, [torch.nn.Parameter(torch.zeros(1, 1))], options)
    if experiment.schedule is not None and experiment.schedule_name is not None:
        schedules.check_options(experiment.schedule_name, experiment.schedule.options)
        schedules.rehearse(experiment.schedule_name, optimizer, experiment.schedule.options)


def optimizer_of(experiment: Experiment, mode: Mode, task: tasks.Task) -> tuple[Optimizer, Scheduler | None]:
    """Return the optimizer of a run and its schedule, if any.

    Raises:
        GradlabError: torch rejects an option, or the number of updates is unknown.
    """
    parameters = task.model.parameters()
    optimizer = optimizers.build(experiment.optimizer_name, parameters, experiment.optimizer_options(mode))
    return optimizer, scheduler_of(experiment, mode, task, optimizer)


def scheduler_of(experiment: Experiment, mode: Mode, task: tasks.Task, optimizer: Optimizer) -> Scheduler | None:
    """Return the schedule of this optimizer, or None if the experiment has none.

    Raises:
        ExperimentError: the schedule needs the number of batches, but they have no len().
    """
    name, settings = experiment.schedule_name, experiment.schedule
    if name is None or settings is None:
        return None
    total = None
    if schedules.needs_total(name, settings.options) and (total := _schedule_steps(experiment, mode, task)) is None:
        title = user_code.title_of(name)
        raise ExperimentError(f"schedule '{title}' needs the number of batches: give them a len()")
    return schedules.build(name, optimizer, settings.options, total)


def _schedule_steps(experiment: Experiment, mode: Mode, task: tasks.Task) -> int | None:
    """Return how often the schedule steps in a run, or None if that is unknown before training."""
    epochs, steps, length = experiment.epochs, experiment.steps, tasks.epoch_length(task.batches)
    if experiment.schedule_every == "epoch" and steps is None:
        return epochs
    if length is None or not length:
        return None
    if experiment.schedule_every == "epoch":
        return math.ceil((steps or 0) / length)
    return update_count(length, mode.every, epochs=epochs, steps=steps)


def steps_of(task: tasks.Task, experiment: Experiment) -> int | None:
    """Return the number of steps of a run, or None if it is unknown before training."""
    if experiment.steps is not None:
        return experiment.steps
    length = tasks.epoch_length(task.batches)
    return None if length is None or experiment.epochs is None else length * experiment.epochs
