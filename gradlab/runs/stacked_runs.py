"""Runs trained in stacks, each with its own folder, log, record and checkpoints.

A stack resumes from the newest step that all its runs have a checkpoint of. Runs that cannot be stacked are left to
the plain loop, with the reason.
"""

from __future__ import annotations

from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any

from gradlab import optimizers, tasks
from gradlab.engines import ensemble
from gradlab.errors import StoreError, shortened
from gradlab.runs.checkpointing import resumable_checkpoints
from gradlab.runs.evaluations import RunEvaluations
from gradlab.runs.job import TASK_ERRORS, Job, TrainingSteps
from gradlab.runs.setup import scheduler_of, steps_of
from gradlab.runs.stopping import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradlab.engines.resuming import Checkpoint
    from gradlab.experiment import Experiment
    from gradlab.optimizers import Optimizer
    from gradlab.runs.plan import RunPlan

MOST_STACKED = 128  # runs: enough to hide the overhead of torch calls, few enough for memory and open files


def train_stacks(job: Job) -> Iterator[RunPlan]:
    """Train the job's runs in stacks and yield the trained ones; the others are left to the plain loop.

    Raises:
        StoppedError: a stop was requested.
        GradlabError: an error that the user can fix.
    """
    trainer, reported = _StackTrainer(), set()
    for plans in _stacks(job.experiment, job.plans):
        job.stop.raise_between_runs()
        left, reason = trainer.train(job.subset(plans, stacked=True))
        if reason and reason not in reported:
            reported.add(reason)
            job.progress.on_message(f"trained sequentially by the plain loop: {reason}")
        yield from (plan for plan in plans if plan not in left)


def _stacks(experiment: Experiment, plans: list[RunPlan]) -> list[list[RunPlan]]:
    """Group runs with equal step times and optimizer options into stacks, ordered by seed, then mode."""
    alike: dict[object, list[RunPlan]] = {}
    for plan in plans:
        mode, options = plan.mode, experiment.optimizer_options(plan.mode)
        key = (mode.own, mode.every, mode.mean, mode.by_batch, tuple(map(str, options.items())))
        alike.setdefault(key, []).append(plan)
    stacks = []
    for group in alike.values():
        by_seed = sorted(group, key=lambda plan: experiment.seeds.index(plan.seed))
        stacks += [by_seed[at : at + MOST_STACKED] for at in range(0, len(by_seed), MOST_STACKED)]
    return stacks


class _StackTrainer:
    """Trains the stacks of one experiment; caches the rehearsals of its tasks and the traced step."""

    def __init__(self) -> None:
        self._stackability: dict[tuple[int, ...], ensemble.Stackability] = {}
        self._traced_steps = ensemble.TracedSteps()

    def train(self, job: Job) -> tuple[list[RunPlan], str]:
        """Train one stack; return the runs left to the plain loop, and why: "" if they started there."""
        for plan in job.plans:
            plan.folder.make()
        checkpoints = [
            list(resumable_checkpoints(plan, record, job.notify))
            for plan, record in zip(job.plans, job.records, strict=True)
        ]
        stacked = [all(ensemble.is_stacked(each.state) for each in found) for found in checkpoints]
        left = [plan for plan, is_stacked in zip(job.plans, stacked, strict=True) if not is_stacked]
        if left == job.plans:
            return left, ""
        job = job.subset(list(compress(job.plans, stacked)), stacked=True)
        if reason := self._obstacle(job):
            return [*left, *job.plans], reason
        try:
            job.train_from_first(_resume_points(job, list(compress(checkpoints, stacked))), self._start_engine)
        except (StoreError, StoppedError):
            raise
        except TASK_ERRORS as error:  # the plain loop reports it
            kind = "" if isinstance(error, ensemble.CannotStackError) else f"{type(error).__name__}: "
            return [*left, *job.plans], kind + shortened(str(error).partition("\n")[0], 100)
        return left, ""

    def _obstacle(self, job: Job) -> str:
        """Find the start of each seed; return why the runs cannot be stacked, or ""."""
        mode = job.plans[0].mode
        if job.experiment.log:
            return f"no other engine logs {', '.join(job.experiment.log)}"
        if reason := ensemble.unstackable_reason(mode, partial(_build_optimizer, job)):
            return reason
        experiment, seeds = job.experiment, _seeds(job)
        try:
            for plan in job.plans:
                job.starts.of(plan)
            if seeds not in self._stackability:
                built = [tasks.build(experiment.task_name, seed, experiment.task_options) for seed in seeds]
                self._stackability[seeds] = ensemble.stackability_of([task.to(experiment.device) for task in built])
        except TASK_ERRORS as error:  # the plain loop reports it
            return f"the task raises {type(error).__name__}"
        return self._stackability[seeds].reason_under(mode)

    def _start_engine(self, job: Job, checkpoints: Sequence[Checkpoint]) -> TrainingSteps:
        """Return the training steps of the stack."""
        experiment, seeds, mode = job.experiment, _seeds(job), job.plans[0].mode
        # Finish each one before the next build seeds all generators again.
        seed_tasks = [ensemble.SeedTask(job.build_task(seed, resumed=bool(checkpoints))) for seed in seeds]
        training = ensemble.StackedTraining(
            seed_tasks,
            [ensemble.Member(plan.mode, seeds.index(plan.seed)) for plan in job.plans],
            partial(_build_optimizer, job),
            partial(scheduler_of, experiment, mode, seed_tasks[0].task),
            self._traced_steps if self._stackability[seeds].traceable else None,
            scheduler_every=experiment.schedule_every,
        )
        if checkpoints:
            ensemble.restore([each.state for each in checkpoints], training)
        evaluations = RunEvaluations(
            experiment,
            seed_tasks[0].original,
            training.cursor,
            job.notify,
            is_resumed=bool(checkpoints),
            stack=training,
        )
        evaluations.check_expected(experiment)
        steps = ensemble.train(
            training, epochs=experiment.epochs, steps=experiment.steps, clip_norm=experiment.clip_norm
        )
        return TrainingSteps(
            steps if job.models is None else _keeping_models(steps, training, job),
            steps_of(seed_tasks[0].task, experiment),
            lambda: ensemble.snapshots(training),
            lambda step: map(step.row, range(len(job.plans))),
            send_evaluations=evaluations.send if evaluations.due else None,
            training_set_losses=evaluations.training_set_losses,
        )


def _keeping_models(
    steps: Iterator[ensemble.StackedStep], training: ensemble.StackedTraining, job: Job
) -> Iterator[ensemble.StackedStep]:
    """Yield the steps, then put the model of each run into `job.models`."""
    yield from steps
    assert job.models is not None
    for plan, state in zip(job.plans, ensemble.snapshots(training), strict=True):
        model = job.build_task(plan.seed, resumed=True).model
        model.load_state_dict(state["model"], strict=False)  # buffers that a stack shares stay as they were built
        job.models[plan.mode.name, plan.seed] = model


def _seeds(job: Job) -> tuple[int, ...]:
    return tuple(dict.fromkeys(plan.seed for plan in job.plans))


def _build_optimizer(job: Job, parameters: Sequence[Any]) -> Optimizer:
    options = job.experiment.optimizer_options(job.plans[0].mode)
    return optimizers.build(job.experiment.optimizer_name, parameters, options)


def _resume_points(job: Job, checkpoints: list[list[Checkpoint]]) -> Iterator[list[Checkpoint]]:
    """Yield one checkpoint per run for every step that all runs have, newest first; then [], the start.

    If the process was killed between saving two runs, some have a newer checkpoint, which is not used.
    """
    by_step = [{checkpoint.step: checkpoint for checkpoint in each} for each in checkpoints]
    for step in sorted(set.intersection(*map(set, by_step)), reverse=True):
        yield [each[step] for each in by_step]
    if any(by_step):
        job.notify("retrained from the start: no step has a usable checkpoint of every run")
    yield []
