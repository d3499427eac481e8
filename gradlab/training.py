"""The training loop everybody knows, as a generator of rows: forward, backward, step if due, keep."""

from __future__ import annotations

from itertools import count, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.errors import TaskError
from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradlab.modes import Mode
    from gradlab.optimizers import Optimizer
    from gradlab.tasks import Task


class _Place(NamedTuple):
    epoch: int
    batch: Any
    window: int  # backward passes in the window that this batch belongs to
    last: bool  # whether the window ends with it


def train(
    task: Task, mode: Mode, optimizer: Optimizer, *, epochs: int | None = None, steps: int | None = None
) -> Iterator[Row]:
    """Train for `epochs` passes over the batches or for `steps` backward passes, whichever ends first.

    A row is yielded after each step, when the update that was due is taken and `.grad` holds what the mode keeps.
    A window of accumulation ends with its epoch and with the run: a shorter last one is divided by its own length.

    Raises:
        TaskError: the loss is not a scalar with a graph behind it, or an epoch has no batch.
    """
    update = 0
    parameters = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    for step, (epoch, batch, window, due) in enumerate(_places(task.batches, mode.every, epochs, steps)):
        loss = task.loss(task.model, batch)
        if step == 0:
            _check_scalar(loss)
        (loss / window if mode.mean and window > 1 else loss).backward()
        row = Row(step, update, epoch, loss.item())
        if due:
            optimizer.step()
            update += 1
            if mode.keep == 0:
                optimizer.zero_grad(set_to_none=not mode.fill)
            elif mode.keep != 1:
                for parameter in parameters:
                    if parameter.grad is not None:
                        parameter.grad *= mode.keep
        yield row


def _places(batches: Iterable[Any], every: int, epochs: int | None, steps: int | None) -> Iterator[_Place]:
    """Yield each batch with its place, until the epochs or the steps are used up."""
    assert epochs is not None or steps is not None, "training needs an end"
    length = length_of(batches)
    left = steps
    for epoch in count() if epochs is None else range(epochs):
        if left is None:
            places = _windows(batches, epoch, every, length)
        else:
            places = _windows(islice(batches, left), epoch, every, None if length is None else min(length, left))
        seen = 0
        for seen, place in enumerate(places, 1):  # noqa: B007 - counted for what follows
            yield place
        if seen == 0:
            raise TaskError(
                f"epoch {epoch} has no batch: batches must be there at every pass, as of a list or DataLoader"
            )
        if left is not None:
            left -= seen
            if left == 0:
                return


def _windows(batches: Iterable[Any], epoch: int, every: int, length: int | None) -> Iterator[_Place]:
    """Cut one pass over `length` batches into windows of `every`, the last one perhaps shorter."""
    if every == 1:
        for batch in batches:
            yield _Place(epoch, batch, 1, last=True)
    elif length is None:  # the length of the last window is known only once its batches are drawn
        iterator = iter(batches)
        while window := list(islice(iterator, every)):
            for nth, batch in enumerate(window, 1):
                yield _Place(epoch, batch, len(window), last=nth == len(window))
    else:
        nth = 0
        for nth, batch in enumerate(batches, 1):
            before = (nth - 1) // every * every
            size = min(every, length - before)
            yield _Place(epoch, batch, size, last=nth == before + size)
        if nth != length:
            raise TaskError(
                f"epoch {epoch} has {nth} batches where len() says {length}, so its last window cannot close"
            )


def length_of(batches: Iterable[Any]) -> int | None:
    """Return how many batches an epoch has, or None where only a pass would tell."""
    try:
        return len(batches)  # type: ignore[arg-type]  # not all iterables have one, and a DataLoader may refuse
    except TypeError:
        return None


def _check_scalar(loss: object) -> None:
    import torch

    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        kind = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
        raise TaskError(f"the task's loss must be a scalar tensor, got {kind}; take its mean")
    if not loss.requires_grad:
        raise TaskError(
            "the task's loss has no graph behind it, so backward() finds no gradient; compute it from model(…)"
        )
