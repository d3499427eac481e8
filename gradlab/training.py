"""The training loop everybody knows, as a generator of rows: forward, backward, step if due, keep."""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from itertools import count, islice, repeat
from typing import TYPE_CHECKING, Any, cast

from gradlab.errors import TaskError, shortened
from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch import Tensor, nn

    from gradlab.modes import Mode
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

    With a `cursor`, training goes on from where it stands, and moves it along.

    Raises:
        TaskError: the loss is not a scalar with a graph behind it, nor a pair of that and how many items it sums; or
            an epoch has no batch.
    """
    from torch.nn.utils import clip_grad_norm_

    assert epochs is not None or steps is not None, "training needs an end"
    model, length = task.model, length_of(task.batches)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    at = cursor or Cursor()
    step, update, begun, drawn = at.place
    leave = _leaving(mode, optimizer, parameters, update)
    share, close = at.window.sharing(mode, parameters)
    for epoch in count(begun) if epochs is None else range(begun, epochs):
        first, drawn = step - drawn, 0
        left = None if steps is None else steps - first
        for batch, (window, due) in at.passed(windows(task.batches, mode.every, length, left), step - first):
            loss, items = _mean_and_items(task.loss(model, batch))
            if step == 0:
                _check_scalar(loss)
            share(loss, items, window).backward()
            row = Row(step, update, epoch, loss.item(), items or 1)
            if due:
                close()
                if clip_norm is not None:
                    clip_grad_norm_(parameters, clip_norm)
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                leave()  # keep × gradient in .grad: what this project is about
                update += 1
            step += 1
            at.place, at.batch = (step, update, epoch, step - first), batch
            yield row
        if step == first:
            raise no_batch(epoch)
        if step == steps:
            return


class Cursor:
    """Where a training stands between two steps: what it needs to go on, besides what model and optimizer hold.

    Attributes:
        place: steps and updates done, the epoch that is under way, and how many of its batches are drawn.
        batch: the last of these.
        window: the window of accumulation that is under way.
        caught_up: called with that last batch when they have been drawn again, before training goes on.
    """

    def __init__(self) -> None:
        self.place = (0, 0, 0, 0)
        self.batch: Any = None
        self.window = Window()
        self.caught_up: Callable[[Any], object] = lambda _batch: None

    def state(self) -> dict[str, Any]:
        """Return place and window in tensors and plain values."""
        window = self.window
        kept = {"told": window.told, "first": window.first, "total": window.total, "kept": window.kept}
        return {"place": list(self.place), "window": kept}

    def begin_at(self, state: Mapping[str, Any]) -> None:
        """Stand where a cursor stood that gave this state."""
        step, update, epoch, drawn = state["place"]
        self.place = (step, update, epoch, drawn)
        for name, value in state["window"].items():
            setattr(self.window, name, value)

    def passed(self, drawn: Iterable[tuple[Any, Any]], done: int) -> Iterable[tuple[Any, Any]]:
        """Return what is left of an epoch's batches when `done` of them have been drawn again."""
        if not done:
            return drawn
        left = iter(drawn)
        again = deque(islice(left, done), maxlen=1)
        self.caught_up(again[0][0] if again else None)
        return left


class Window:
    """A window of accumulation whose gradient is the mean over its batches, or over their items where they tell.

    How many items there are is known at the end only. Until then each mean is weighted by its items over those of the
    first batch, so that numbers stay of the size of a mean; then all are brought to the total.

    Attributes:
        told: whether batches tell their items, None until that is known.
        first: items of the window's first batch.
        total: items of the window so far; 0 between two windows, and where batches do not tell.
        kept: what the mode left in `.grad` before this window, which is no part of the mean.
    """

    def __init__(self) -> None:
        self.parameters: list[nn.Parameter] = []
        self.told: bool | None = None
        self.first = self.total = 0.0
        self.kept: list[Tensor | None] = []

    def sharing(
        self, mode: Mode, parameters: list[nn.Parameter]
    ) -> tuple[Callable[[Any, float | None, int], Any], Callable[[], object]]:
        """Return what a batch's loss contributes to its window, and what ends a window; chosen once, as below."""
        if mode.every == 1 or not mode.mean:
            return lambda loss, _items, _window: loss, lambda: None
        if mode.by_batch:
            return lambda loss, _items, window: loss / window, lambda: None
        self.parameters = parameters
        return self.share, self.close

    def share(self, loss: Tensor, items: float | None, window: int) -> Tensor:
        """Return what is backpropagated of a batch with this mean loss, in a window of so many batches."""
        if self.told is None:
            self.told = items is not None
        if self.told != (items is not None):
            raise TaskError("the task's loss is a pair (sum, count) in one step and none in another; return one kind")
        if items is None:
            return loss / window if window > 1 else loss
        if not self.total:
            self.first = items
            self.kept = [parameter.grad for parameter in self.parameters]
            for parameter in self.parameters:
                parameter.grad = None
        self.total += items
        return loss * (items / self.first) if items != self.first else loss

    def close(self) -> None:
        """Make `.grad` what was kept plus the mean over the window's items, if they were told."""
        if not self.total:
            return
        for parameter, kept in zip(self.parameters, self.kept, strict=True):
            if parameter.grad is not None and self.total != self.first:
                parameter.grad *= self.first / self.total
            if kept is not None:
                parameter.grad = kept if parameter.grad is None else kept.add_(parameter.grad)
        self.first = self.total = 0.0
        self.kept = []


def _leaving(mode: Mode, optimizer: Optimizer, parameters: list[nn.Parameter], update: int) -> Callable[[], object]:
    """Return what leaves keep × gradient in `.grad`; chosen once, so that a step pays for nothing but that."""
    if (own := mode.leave) is not None:
        updates = count(update)
        return lambda: own(parameters, next(updates))
    if mode.keep == 0:
        return partial(optimizer.zero_grad, set_to_none=not mode.fill)
    if mode.keep == 1:
        return lambda: None

    def leave() -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad *= mode.keep

    return leave


def windows(
    batches: Iterable[Any], every: int, length: int | None, left: int | None
) -> Iterable[tuple[Any, tuple[int, bool]]]:
    """Yield the batches of a pass, `left` of them at most, each with the size of its window and whether it ends it."""
    if left is not None:
        batches = islice(batches, left)
        length = None if length is None else min(length, left)
    if every == 1:
        return zip(batches, repeat((1, True)), strict=False)  # no Python between two steps
    return _sized_windows(batches, every, length) if length is not None else _drawn_windows(batches, every)


def _sized_windows(batches: Iterable[Any], every: int, length: int) -> Iterator[tuple[Any, tuple[int, bool]]]:
    """Cut `length` batches into windows of `every`, the last one perhaps shorter."""
    nth = 0
    for nth, batch in enumerate(batches, 1):
        if nth > length:
            break
        before = (nth - 1) // every * every
        window = min(every, length - before)
        yield batch, (window, nth == before + window)
    if nth != length:
        raise TaskError(f"an epoch has {nth} batches where len() says {length}, so that its last window cannot close")


def _drawn_windows(batches: Iterable[Any], every: int) -> Iterator[tuple[Any, tuple[int, bool]]]:
    """Cut batches into windows of `every`, drawing each window before it begins: only then is its size known."""
    iterator = iter(batches)
    while window := list(islice(iterator, every)):
        for nth, batch in enumerate(window, 1):
            yield batch, (len(window), nth == len(window))


def updates_of(length: int, every: int, *, epochs: int | None = None, steps: int | None = None) -> int:
    """Return how many optimizer steps a training takes whose epochs have `length` batches."""
    assert epochs is not None or steps is not None, "training needs an end"
    an_epoch = -(-length // every)
    if steps is None or (epochs is not None and epochs * length <= steps):
        return cast("int", epochs) * an_epoch
    whole, rest = divmod(steps, length)
    return whole * an_epoch + -(-rest // every)


def length_of(batches: Iterable[Any]) -> int | None:
    """Return how many batches an epoch has, or None where only a pass would tell."""
    try:
        return len(batches)  # type: ignore[arg-type]  # not all iterables have one, and a DataLoader may refuse
    except TypeError:
        return None


def no_batch(epoch: int) -> TaskError:
    """Return the error of an epoch without a batch."""
    return TaskError(f"epoch {epoch} has no batch; batches must be there at every pass: a list, a DataLoader")


def _mean_and_items(loss: Any) -> tuple[Any, float | None]:
    """Return the mean loss, and how many items it is the mean of where the task's loss is a pair (sum, count).

    Raises:
        TaskError: it is a tuple, but not such a pair.
    """
    if not isinstance(loss, tuple):
        return loss, None
    if len(loss) != 2:
        raise TaskError(f"the task's loss returned {len(loss)} values; return a scalar tensor or a pair (sum, count)")
    total, count = loss
    items = count.item() if hasattr(count, "item") and getattr(count, "ndim", 1) == 0 else count
    if isinstance(items, bool) or not isinstance(items, int | float) or not 0 < items < math.inf:
        raise TaskError(
            f"the task's loss returned (sum, count) with a count of {shortened(items)}; "
            "it must be a number greater than 0: leave out a batch that has nothing to count"
        )
    return total / items, items


def _check_scalar(loss: object) -> None:
    import torch

    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        if isinstance(loss, torch.Tensor):
            raise TaskError(
                f"the task's loss must be a scalar tensor, got a tensor of shape {tuple(loss.shape)}; take its mean"
            )
        raise TaskError(f"the task's loss must be a scalar tensor, got {type(loss).__name__}")
    if not loss.requires_grad:
        raise TaskError(
            "the task's loss has no graph behind it, so backward() finds no gradient; compute it from model(…)"
        )
