"""The PyTorch training loop as a generator of rows: forward, backward, step if due, keep."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from gradlab import modes
from gradlab.annotations import checked
from gradlab.engines.accumulation import windows
from gradlab.engines.cursor import Cursor
from gradlab.engines.geometry import GeometryMeter
from gradlab.engines.losses import check_scalar, mean_and_items
from gradlab.errors import ExperimentError, ModeError, OptimizerError, TaskError, kind_of
from gradlab.rows import Row
from gradlab.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from gradlab.modes import Mode, RewriteGrad
    from gradlab.optimizers import Optimizer, Scheduler
    from gradlab.schedules import Every


@checked(ExperimentError)
def train(
    task: Task,
    mode: Mode | str,
    optimizer: Optimizer,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    clip_norm: float | None = None,
    scheduler: Scheduler | None = None,
    scheduler_every: Every = "update",
    cursor: Cursor | None = None,
    geometry: bool = False,
) -> Iterator[Row]:
    """Return an iterator that trains, and yields a row per step.

    It ends after `epochs` passes over the batches or `steps` backward passes. Arguments are checked at the call.

    A row is yielded after any due update, when `.grad` holds what the mode keeps. An accumulation window ends with its
    epoch: a shorter last window is divided by its own length. If the task's loss is a pair (sum, count), rows hold the
    mean, and a window is divided by its total count.

    `mode` is a mode or its word, such as "no_zero_grad". Every update clips `.grad` to the norm `clip_norm`, steps the
    optimizer, then steps the `scheduler`. With `scheduler_every="epoch"`, the scheduler steps between two epochs
    instead. Training resumes at `cursor` and advances it. With `geometry`, rows before an update have the geometry of
    that update.

    Raises:
        TaskError: the loss is neither a scalar tensor with a graph nor a pair (sum, count); or an epoch has no batch.
        ModeError: the word is unknown, or a user's own mode left an invalid gradient.
        OptimizerError: the optimizer is no object with a step, or has no parameter of the model.
        ExperimentError: a number is of the wrong type, or epochs and steps are missing.
    """
    _check_arguments(task, optimizer)
    if epochs is None and steps is None:
        raise ExperimentError("training needs an end: give epochs=… or steps=…")
    if not isinstance(mode, modes.Mode) or mode.rewrite_grad is None:
        mode = modes.load(mode)
    return _train(
        task, mode, optimizer, epochs, steps, clip_norm, scheduler, scheduler_every, cursor or Cursor(), geometry
    )


def _train(
    task: Task,
    mode: Mode,
    optimizer: Optimizer,
    epochs: int | None,
    steps: int | None,
    clip_norm: float | None,
    scheduler: Scheduler | None,
    scheduler_every: Every,
    cursor: Cursor,
    geometry: bool,
) -> Iterator[Row]:
    from torch.nn.utils import clip_grad_norm_

    model = task.model
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    cursor.window.begin(mode, parameters)
    keep_gradients = _keep_function(mode, optimizer, parameters, cursor.update)
    remaining = cursor.remaining(partial(windows, task.batches, mode.every), epochs, steps)
    finish_window, take_step, meter = cursor.window.finish, optimizer.step, None
    if geometry:
        meter = GeometryMeter(mode, optimizer, parameters, cursor)
        remaining, finish_window, take_step = meter.while_measuring(remaining), meter.finish_window, meter.take_step
    of_update, of_epoch = (scheduler, None) if scheduler_every == "update" else (None, scheduler)
    epoch = cursor.epoch
    first = cursor.step
    for batch, window, due in remaining:
        if of_epoch is not None and cursor.epoch != epoch:
            of_epoch.step()
            epoch = cursor.epoch
        loss, items = mean_and_items(task.loss(model, batch), cursor.step)
        if cursor.counts_items is not (items is not None):
            _check_kind(loss, items, cursor)
        cursor.window.divide(loss, items, window).backward()
        if cursor.step == first:
            _check_gradients(parameters)
        row = Row(cursor.step, cursor.update, cursor.epoch, loss.item(), items or 1)
        if due:
            finish_window()
            if clip_norm is not None:
                clip_grad_norm_(parameters, clip_norm)
            take_step()
            if of_update is not None:
                of_update.step()
            keep_gradients()  # leaves keep × gradient in .grad
            cursor.update += 1
            if meter:
                row = row._replace(geometry=meter.measured)
        cursor.step += 1
        yield row


def _check_arguments(task: object, optimizer: Any) -> None:
    """Raise a GradlabError unless these are a task, and an optimizer that has parameters of its model."""
    if not isinstance(task, Task):
        raise TaskError(f"expected a gradlab.Task, got {kind_of(task)}; for a function, pass my_task(seed=0)")
    if isinstance(optimizer, type) or not (hasattr(optimizer, "step") and hasattr(optimizer, "zero_grad")):
        raise OptimizerError(
            f"expected an optimizer such as torch.optim.SGD(task.model.parameters(), lr=0.1), got {kind_of(optimizer)}"
        )
    groups = getattr(optimizer, "param_groups", None)  # those of torch have them
    if not groups:
        return
    trained = {id(each) for group in groups for each in group["params"]}
    if not any(id(each) in trained for each in task.model.parameters()):
        raise OptimizerError(
            "the optimizer has no parameter of the task's model, so nothing would be trained\n"
            "make it from that model: torch.optim.SGD(task.model.parameters(), lr=0.1)"
        )


def _check_kind(loss: object, items: float | None, cursor: Cursor) -> None:
    """Check the first loss. It decides whether all losses are pairs (sum, count).

    Raises:
        TaskError: the first loss is not a scalar tensor with a graph, or a later loss is of the other kind.
    """
    if cursor.counts_items is not None:
        raise TaskError(
            f"the task's loss changed between a scalar and a pair (sum, count) in step {cursor.step}; "
            "return the same kind in every step"
        )
    check_scalar(loss)
    cursor.counts_items = items is not None


def _check_gradients(parameters: list[nn.Parameter]) -> None:
    """Raise TaskError if the first backward pass gave no parameter a gradient."""
    if all(parameter.grad is None for parameter in parameters):
        raise TaskError(
            "the task's loss gave no parameter of its model a gradient, so nothing can be trained\n"
            "use the model that the loss is given: def loss(model, batch): …"
        )


def _keep_function(
    mode: Mode, optimizer: Optimizer, parameters: list[nn.Parameter], update: int
) -> Callable[[], object]:
    """Return the function that leaves keep × gradient in `.grad`; chosen once, to save time per step."""
    if (own := mode.rewrite_grad) is not None:
        return partial(_call_own_mode, mode, own, parameters, count(update))
    if mode.keep == 0:
        return partial(optimizer.zero_grad, set_to_none=not mode.fill)
    if mode.keep == 1:
        return lambda: None

    def scale() -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad *= mode.keep

    return scale


def _call_own_mode(mode: Mode, own: RewriteGrad, parameters: list[nn.Parameter], updates: Iterator[int]) -> None:
    """Call a user's mode and check what it leaves in `.grad`.

    Raises:
        ModeError: `.grad` or a parameter has another shape or type now, or a graph.
    """
    update = next(updates)
    before = [(parameter.shape, parameter.dtype) for parameter in parameters]
    own(parameters, update)
    for parameter, (shape, dtype) in zip(parameters, before, strict=True):
        wanted = f"{dtype} {tuple(shape)}"
        for name, left in (("a parameter", parameter.data), (".grad", parameter.grad)):
            if left is not None and (left.requires_grad or (left.shape, left.dtype) != (shape, dtype)):
                found = f"{left.dtype} {tuple(left.shape)}{' with a graph' * left.requires_grad}"
                raise ModeError(
                    f"mode '{mode.name}' left {name} as {found} after update {update}; it must be {wanted}"
                )
