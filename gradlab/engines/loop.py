"""The training loop everybody knows, as a generator of rows: forward, backward, step if due, keep."""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from itertools import count, islice, repeat
from typing import TYPE_CHECKING, Any, cast

from gradlab.errors import ModeError, TaskError, kind_of, shortened
from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch import Tensor, nn

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

    With a `cursor`, training goes on from where it stands, and moves it along.

    Raises:
        TaskError: the loss is not a scalar with a graph behind it, nor at every step a pair of that and how many items
            it sums; or an epoch has no batch.
        ModeError: a mode of the user's own left what is no gradient.
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
            loss, items = mean_and_items(task.loss(model, batch), step)
            if at.told is None:
                check_scalar(loss)
                at.told = items is not None
            elif at.told != (items is not None):
                raise _two_kinds(step)
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
        told: whether batches tell their items, None until that is known.
        window: the window of accumulation that is under way.
        caught_up: called with that last batch when they have been drawn again, before training goes on.
    """

    def __init__(self) -> None:
        self.place = (0, 0, 0, 0)
        self.batch: Any = None
        self.told: bool | None = None
        self.window = Window()
        self.caught_up: Callable[[Any], object] = lambda _batch: None

    def state(self) -> dict[str, Any]:
        """Return place and window in tensors and plain values."""
        window = self.window
        under_way = {"scale": window.scale, "total": window.total, "kept": window.kept}
        return {"place": list(self.place), "told": self.told, "window": under_way}

    def begin_at(self, state: Mapping[str, Any]) -> None:
        """Stand where a cursor stood that gave this state."""
        step, update, epoch, drawn = state["place"]
        self.place = (step, update, epoch, drawn)
        self.told = state["told"]
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

    How many items there are is known at the end only. Until then each batch counts by its items over `scale`, which
    doubles, and halves `.grad`, as often as the items so far exceed it; then all are brought to the total. So numbers
    stay between half a mean and a mean, which half precision can hold, and halving rounds nothing.

    Attributes:
        scale: what items count over: those of the window's first batch, doubled as often as need be.
        total: items of the window so far; 0 between two windows, and where batches do not tell.
        kept: what the mode left in `.grad` before this window, which is no part of the mean.
    """

    def __init__(self) -> None:
        self.parameters: list[nn.Parameter] = []
        self.scale = self.total = 0.0
        self.kept: list[Tensor | None] = []

    def sharing(
        self, mode: Mode, parameters: list[nn.Parameter]
    ) -> tuple[Callable[[Any, float | None, int], Any], Callable[[], object]]:
        """Return what a batch's loss contributes to its window, and what ends a window; chosen once, not each step."""
        if mode.every == 1 or not mode.mean:
            return lambda loss, _items, _window: loss, lambda: None
        if mode.by_batch:
            return lambda loss, _items, window: loss / window, lambda: None
        self.parameters = parameters
        return self.share, self.close

    def share(self, loss: Tensor, items: float | None, window: int) -> Tensor:
        """Return what is backpropagated of a batch with this mean loss, in a window of so many batches."""
        if items is None:
            return loss / window if window > 1 else loss
        if not self.total:
            self.scale = items
            self.kept = [parameter.grad for parameter in self.parameters]
            for parameter in self.parameters:
                parameter.grad = None
        self.total += items
        before = self.scale
        while self.scale < self.total:
            self.scale *= 2
        if before != self.scale:
            self._multiply(before / self.scale)
        return loss * (items / self.scale) if items != self.scale else loss

    def close(self) -> None:
        """Make `.grad` what was kept plus the mean over the window's items, if they were told."""
        if not self.total:
            return
        if self.total != self.scale:
            self._multiply(self.scale / self.total)
        for parameter, kept in zip(self.parameters, self.kept, strict=True):
            if kept is not None:
                parameter.grad = kept if parameter.grad is None else kept.add_(parameter.grad)
        self.scale = self.total = 0.0
        self.kept = []

    def _multiply(self, factor: float) -> None:
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad *= factor


def _leaving(mode: Mode, optimizer: Optimizer, parameters: list[nn.Parameter], update: int) -> Callable[[], object]:
    """Return what leaves keep × gradient in `.grad`; chosen once, so that a step pays for nothing but that."""
    if (own := mode.rewrite_grad) is not None:
        return partial(_leave_by, mode, own, parameters, count(update))
    if mode.keep == 0:
        return partial(optimizer.zero_grad, set_to_none=not mode.fill)
    if mode.keep == 1:
        return lambda: None

    def leave() -> None:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad *= mode.keep

    return leave


def _leave_by(mode: Mode, own: RewriteGrad, parameters: list[nn.Parameter], updates: Iterator[int]) -> None:
    """Let a user's function leave in `.grad` what it likes, as long as backward can add to it and a step follow it.

    Raises:
        ModeError: it left what cannot be a gradient of the parameter, or another parameter.
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


def mean_and_items(loss: Any, step: int = 0) -> tuple[Any, float | None]:
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
            f"the task's loss returned (sum, count) with a count of {shortened(items)} in step {step}; "
            "it must be a number greater than 0: leave out a batch that has nothing to count"
        )
    if (found := _not_scalar(total)) is not None:
        raise TaskError(
            f"the task's loss returned (sum, count) with {found} for the sum; "
            "it must be a scalar tensor: the sum of the losses"
        )
    return total / items, items


def check_scalar(loss: Any) -> None:
    """Raise TaskError for a loss that is not a scalar tensor with a graph behind it."""
    if (found := _not_scalar(loss)) is not None:
        would = "take its mean" if hasattr(loss, "shape") else "return that or a tuple (sum, count)"
        raise TaskError(f"the task's loss must be a scalar tensor, got {found}; {would}")
    if not loss.requires_grad:
        raise TaskError(
            "the task's loss has no graph behind it, so backward() finds no gradient; compute it from model(…)"
        )


def _not_scalar(loss: object) -> str | None:
    """Say what this is if it is no tensor of one element."""
    import torch

    if not isinstance(loss, torch.Tensor):
        return kind_of(loss)
    return None if loss.numel() == 1 else f"a tensor of shape {tuple(loss.shape)}"


def _two_kinds(step: int) -> TaskError:
    return TaskError(
        "the task's loss is a pair (sum, count) in one step and none in another, "
        f"which is step {step}; return one kind"
    )
