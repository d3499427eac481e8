"""One run, trained by the plain loop or TensorFlow, from its newest checkpoint or from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab import modes
from gradlab.engines import ensemble, loop, tensorflow
from gradlab.engines.resuming import Checkpoint, TrainingState
from gradlab.runs.checkpointing import resumable_checkpoints
from gradlab.runs.evaluations import RunEvaluations, is_evaluated
from gradlab.runs.job import Job, TrainingSteps
from gradlab.runs.setup import optimizer_of, steps_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def train_run(job: Job) -> None:
    """Train the only run of a job, from its newest usable checkpoint or from the start.

    Raises:
        StoppedError: a stop was requested.
        GradlabError: an error that the user can fix.
    """
    job.plans[0].folder.make()
    job.train_from_first(_resume_points(job), _start_engine)


def _resume_points(job: Job) -> Iterator[list[Checkpoint]]:
    """Yield the usable checkpoints, each in a list, newest first; then [], the start."""
    (plan,), (record,) = job.plans, job.records
    has_checkpoints = not plan.fresh and bool(plan.folder.checkpoints())
    for checkpoint in resumable_checkpoints(plan, record, job.notify):
        if ensemble.is_stacked(checkpoint.state):
            job.notify(f"cannot resume from step {checkpoint.step}: the run was trained in a stack then")
        else:
            yield [checkpoint]
    if has_checkpoints:
        job.notify("retrained from the start")
    yield []


def _start_engine(job: Job, checkpoints: Sequence[Checkpoint]) -> TrainingSteps:
    """Return the training steps of the run by the experiment's engine."""
    experiment, (plan,) = job.experiment, job.plans
    task = job.build_task(plan.seed, resumed=bool(checkpoints))
    ends: dict[str, int | None] = {"epochs": experiment.epochs, "steps": experiment.steps}
    total = steps_of(task, experiment)
    if experiment.engine == "tensorflow":
        if is_evaluated(experiment, task):
            job.notify("engine 'tensorflow' does not evaluate: no validation loss and no metrics")
        lr = experiment.optimizer_options(plan.mode)["lr"]
        return TrainingSteps(tensorflow.train(task, plan.mode, lr, **ends, threads=experiment.threads), total, None)
    state = TrainingState(task, *optimizer_of(experiment, plan.mode, task))
    if job.models is not None:
        job.models[plan.mode.name, plan.seed] = state.task.model  # trained in place
    for checkpoint in checkpoints:
        state.restore(checkpoint.state)
    evaluations = RunEvaluations(experiment, task, state.cursor, job.notify, is_resumed=bool(checkpoints))
    evaluations.check_expected(experiment)
    rows = loop.train(
        state.task,
        modes.load(plan.mode),
        state.optimizer,
        **ends,
        clip_norm=experiment.clip_norm,
        scheduler=state.scheduler,
        scheduler_every=experiment.schedule_every,
        cursor=state.cursor,
        geometry="geometry" in experiment.log,
    )
    return TrainingSteps(
        rows,
        total,
        lambda: [state.snapshot()],
        send_evaluations=evaluations.send if evaluations.due else None,
        training_set_losses=evaluations.training_set_losses,
    )
