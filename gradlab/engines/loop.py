"""The training loop everybody knows, as a generator of rows: forward, backward, step if due, keep."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from gradlab.engines.accumulation import windows
from gradlab.engines.cursor import Cursor
from gradlab.engines.losses import check_scalar, mean_and_items
from gradlab.errors import ModeError, TaskError
from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from gradlab.modes import Mode, RewriteGrad
    from gradlab.optimizers import Optimizer, Scheduler
    from gradlab.tasks import Task


def train(
    task: Task,
    mode: Mode,
    optimizer: Optimizer,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    clip_norm: float | None = None,
    scheduler: Scheduler | None = None,
    cursor: Cursor | None = None,
) -> Iterator[Row]:
    """Train for `epochs` passes over the batches or for `steps` backward passes, whichever ends first.

    A row is yielded after each step, when the update that was due is taken and `.grad` holds what the mode keeps.
    A window of accumulation ends with its epoch and with the run: a shorter last one is divided by its own length.
    Where the task's loss is a pair (sum, count), the row has its mean, and a window is divided by its total count.
    Once an update, `.grad` is clipped to the norm `clip_norm` before the optimizer's step, and `scheduler` steps after
    it.

    With a `cursor`, training resumes where that stands, and moves it.

    Raises:
        TaskError: the loss is not a scalar with a graph behind it, nor at every step a pair of that and how many items
            it sums; or an epoch has no batch.
        ModeError: a user's own mode left something that cannot be a gradient.
    """
    from torch.nn.utils import clip_grad_norm_

    model, cursor = task.model, cursor or Cursor()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    cursor.window.begin(mode, parameters)
    keep_gradients = _keep_function(mode, optimizer, parameters, cursor.update)
    for batch, window, due in cursor.remaining(partial(windows, task.batches, mode.every), epochs, steps):
        loss, items = mean_and_items(task.loss(model, batch), cursor.step)
        if cursor.counts_items is not (items is not None):
            _check_kind(loss, items, cursor)
        cursor.window.divide(loss, items, window).backward()
        row = Row(cursor.step, cursor.update, cursor.epoch, loss.item(), items or 1)
        if due:
            cursor.window.finish()
            if clip_norm is not None:
                clip_grad_norm_(parameters, clip_norm)
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            keep_gradients()  # keep × gradient in .grad: what this project is about
            cursor.update += 1
        cursor.step += 1
        yield row


def _check_kind(loss: object, items: float | None, cursor: Cursor) -> None:
    """Check the first loss, which decides whether all are pairs (sum, count).

    Raises:
        TaskError: it is not a scalar with a graph behind it, or a later loss is of the other kind.
    """
    if cursor.counts_items is not None:
        raise TaskError(
            "the task's loss is a pair (sum, count) in one step and none in another, "
            f"which is step {cursor.step}; return one kind"
        )
    check_scalar(loss)
    cursor.counts_items = items is not None


def _keep_function(
    mode: Mode, optimizer: Optimizer, parameters: list[nn.Parameter], update: int
) -> Callable[[], object]:
    """Return what leaves keep × gradient in `.grad`; chosen once, so that a step pays for nothing but that."""
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
    """Let a user's function leave anything in `.grad` that backward can add to and a step can follow.

    Raises:
        ModeError: it left something that cannot be a gradient of the parameter, or another parameter.
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
