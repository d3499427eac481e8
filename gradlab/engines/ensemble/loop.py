"""The loop everybody knows, once for all runs of an ensemble: forward, backward, step if due, keep."""

from __future__ import annotations

from collections import deque
from itertools import count, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import optimizers
from gradlab.engines.ensemble.batches import CannotStackError, in_step
from gradlab.engines.ensemble.stack import Member, Stack
from gradlab.engines.loop import no_batch
from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from gradlab.engines.ensemble.batches import World
    from gradlab.engines.ensemble.traced_step import TracedSteps
    from gradlab.optimizers import Optimizer, Scheduler

    Build = Callable[[Sequence[nn.Parameter]], Optimizer]


LOOK_EVERY = 256  # steps: then a traced step is held against the loss as it is now


class Losses(NamedTuple):
    """What is logged of one step of all runs.

    Attributes:
        step: backward passes before this one.
        update: optimizer steps before this one.
        epoch: passes over the batches before this one.
        losses: of each run, in the order of the members.
        items: of each run, how many its loss is the mean of, where the task tells.
    """

    step: int
    update: int
    epoch: int
    losses: list[float]
    items: list[float] | None = None

    def row(self, member: int) -> Row:
        """Return the row of one run."""
        return Row(self.step, self.update, self.epoch, self.losses[member], self.items[member] if self.items else 1)


class Training:
    """Runs that are trained together: tasks, the stack, and where they stand.

    Attributes:
        stack: what is trained.
        optimizers: of each group of the stack, or of all where they differ in options.
        schedulers: of each optimizer, None where there is no schedule.
        place: steps and updates done, the epoch under way, and how many of its batches are drawn.
        batches: the last ones drawn, one of each task.
        told: whether losses tell their items, None until that is known.
        caught_up: called with those last batches when they have been drawn again, before training goes on.
    """

    def __init__(
        self,
        worlds: Sequence[World],
        members: Sequence[Member],
        build: Build | Sequence[Build],
        schedule: Callable[[Optimizer], Scheduler | None] | None = None,
        traced: TracedSteps | None = None,
    ) -> None:
        """Stack the runs.

        Args:
            worlds: the tasks.
            members: the runs; all their modes have the same `every` and division.
            build: returns the optimizer of parameters; or each of those that members name by their number.
            schedule: returns the schedule of an optimizer, if there is one.
            traced: traces the step, as far as that is possible; for weights that all get a gradient in each step.
        """
        assert len({(each.mode.every, each.mode.mean, each.mode.by_batch) for each in members}) == 1
        self.worlds = list(worlds)
        self.traced = traced if traced and not traced.fault else None
        self.stack = Stack([world.task for world in worlds], members, late=self.traced is not None)
        builds = [build] if callable(build) else build
        made = [builds[group.optimizer](list(group.parameters.values())) for group in self.stack.groups]
        self.optimizers = made if len(builds) == 1 else optimizers.joined(made)
        self.schedulers = [schedule(each) if schedule else None for each in self.optimizers]
        self.place = (0, 0, 0, 0)
        self.batches: list[Any] = []
        self.told: bool | None = None
        self.caught_up: Callable[[list[Any]], object] = lambda _batches: None

    def passed(self, drawn: Iterator[tuple[list[Any], Any]], done: int) -> Iterator[tuple[list[Any], Any]]:
        """Return what is left of an epoch's batches when `done` of them have been drawn again."""
        if done:
            again = deque(islice(drawn, done), maxlen=1)
            self.caught_up(again[0][0] if again else [])
        return drawn

    def add_gradients(self, batches: Sequence[Any], window: int) -> tuple[Tensor, Tensor | None]:
        """Add to `.grad` of each run the gradient of its batch's loss over `window`; return losses and items."""
        if self.traced:
            losses = self.traced.add_gradients(self.stack, batches, 1 / window)
            if losses is not None:
                if self.place[0] % LOOK_EVERY == 0:
                    self._look(batches, losses)
                return losses, None
            self.traced = None
            self.stack.catch_up()
        losses, items = self.stack.losses(batches)
        if self.told not in (None, items is not None):
            raise CannotStackError("its loss is a pair (sum, count) in one step and none in another")
        total = losses.sum()
        (total / window if window > 1 else total).backward()  # type: ignore[no-untyped-call]  # torch's
        self.stack.check_used()
        return losses.detach(), items

    def take_step(self, clip_norm: float | None) -> None:
        """Take an optimizer step, and leave keep × gradient in `.grad`."""
        if clip_norm is not None:
            for group in self.stack.groups:
                group.clip(clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        for scheduler in self.schedulers:
            if scheduler is not None:
                scheduler.step()
        self.stack.leave()

    def _look(self, batches: Sequence[Any], losses: Tensor) -> None:
        """Hold the losses of a traced step against those of the tasks as they are now.

        Raises:
            CannotStackError: they differ by more than rounding.
        """
        import torch

        with torch.no_grad():
            expected, _ = self.stack.losses(batches)
        near = 1000 * torch.finfo(expected.dtype).eps  # means over a batch, added up in another order
        alike = torch.isclose(losses, expected, rtol=near, atol=near) | ~(losses.isfinite() | expected.isfinite())
        if not alike.all():
            raise CannotStackError("its loss rests on more than weights and batch")


def train(
    training: Training, *, epochs: int | None = None, steps: int | None = None, clip_norm: float | None = None
) -> Iterator[Losses]:
    """Train for `epochs` passes over the batches or for `steps` backward passes, whichever ends first.

    What is yielded after each step is what `gradlab.train` would yield for each run. Training goes on from where it
    stands, and moves that along.

    Raises:
        CannotStackError: something was met that the plain loop alone can do. Torch raises what it likes in that case,
            too: whatever is raised here is for the plain loop to tell.
    """
    assert epochs is not None or steps is not None, "training needs an end"
    stack, mode = training.stack, training.stack.members[0].mode
    step, update, begun, drawn = training.place
    divided = mode.mean and mode.every > 1
    for epoch in count(begun) if epochs is None else range(begun, epochs):
        first, drawn = step - drawn, 0
        left = None if steps is None else steps - first
        drawing = in_step(training.worlds, mode.every, left)
        for batches, (window, due) in training.passed(drawing, step - first):
            losses, items = training.add_gradients(batches, window if divided else 1)
            row = Losses(step, update, epoch, stack.in_order(losses), None if items is None else stack.in_order(items))
            if due:
                training.take_step(clip_norm)
                update += 1
            step += 1
            training.place, training.batches = (step, update, epoch, step - first), batches
            training.told = items is not None
            yield row
        if step == first:
            raise no_batch(epoch)
        if step == steps:
            return
