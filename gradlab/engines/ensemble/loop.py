"""The loop everybody knows, once for all runs of an ensemble: forward, backward, step if due, keep."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import optimizers
from gradlab.engines.cursor import Cursor
from gradlab.engines.ensemble.batches import CannotStackError, draw_together
from gradlab.engines.ensemble.stack import Member, Stack
from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from gradlab.engines.ensemble.batches import SeedTask
    from gradlab.engines.ensemble.traced_step import TracedSteps
    from gradlab.optimizers import Optimizer, Scheduler

    Build = Callable[[Sequence[nn.Parameter]], Optimizer]

CHECK_EVERY = 256  # steps: then the losses of a traced step are compared with those that the tasks compute


class StackedStep(NamedTuple):
    """What is logged of one step of all runs.

    Attributes:
        step: backward passes before this one.
        update: optimizer steps before this one.
        epoch: passes over the batches before this one.
        losses: of each run, in the order of the members.
        items: of each run, how many its loss is the mean of, where the task counts them.
    """

    step: int
    update: int
    epoch: int
    losses: list[float]
    items: list[float] | None = None

    def row(self, member: int) -> Row:
        """Return the row of one run."""
        return Row(self.step, self.update, self.epoch, self.losses[member], self.items[member] if self.items else 1)


class StackedTraining:
    """Runs that are trained together: tasks, stack, optimizers, and where they stand.

    Attributes:
        seeds: the task of each seed.
        stack: what is trained.
        traced: what traces the step, as long as that is possible.
        optimizers: of each group of the stack, or of all where they differ in options.
        schedulers: of each optimizer, None where there is no schedule.
        cursor: where they stand; its batch is a list of one of each task.
    """

    def __init__(
        self,
        seeds: Sequence[SeedTask],
        members: Sequence[Member],
        build: Build | Sequence[Build],
        schedule: Callable[[Optimizer], Scheduler | None] | None = None,
        traced: TracedSteps | None = None,
    ) -> None:
        """Stack the runs.

        Args:
            seeds: the task of each seed.
            members: the runs; all their modes have the same `every` and division.
            build: returns the optimizer of parameters; or each of those that members name by their number.
            schedule: returns the schedule of an optimizer, if there is one.
            traced: traces the step, as far as that is possible; for weights that all get a gradient in each step.
        """
        assert len({(each.mode.every, each.mode.mean, each.mode.by_batch) for each in members}) == 1
        self.seeds = list(seeds)
        self.traced = traced if traced and not traced.fault else None
        self.stack = Stack([seed.task for seed in seeds], members, deferred=self.traced is not None)
        builds = [build] if callable(build) else build
        made = [builds[group.optimizer](list(group.parameters.values())) for group in self.stack.groups]
        self.optimizers = made if len(builds) == 1 else optimizers.joined(made)
        self.schedulers = [schedule(each) if schedule else None for each in self.optimizers]
        self.cursor = Cursor()

    def add_gradients(self, batches: Sequence[Any], window: int) -> tuple[Tensor, Tensor | None]:
        """Add to `.grad` of each run the gradient of its batch's loss over `window`; return losses and items."""
        if self.traced:
            losses = self.traced.add_gradients(self.stack, batches, 1 / window)
            if losses is not None:
                if self.cursor.step % CHECK_EVERY == 0:
                    self._check_traced(batches, losses)
                return losses, None
            self.traced = None
            self.stack.stop_deferring()
        losses, items = self.stack.losses(batches)
        if self.cursor.counts_items not in (None, items is not None):
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
        self.stack.keep_gradients()

    def _check_traced(self, batches: Sequence[Any], losses: Tensor) -> None:
        """Raise CannotStackError where the losses of a traced step differ from the tasks' by more than rounding."""
        import torch

        with torch.no_grad():
            expected, _ = self.stack.losses(batches)
        near = 1000 * torch.finfo(expected.dtype).eps  # means over a batch, added up in another order
        alike = torch.isclose(losses, expected, rtol=near, atol=near) | ~(losses.isfinite() | expected.isfinite())
        if not alike.all():
            raise CannotStackError("its loss rests on more than weights and batch")


def train(
    training: StackedTraining, *, epochs: int | None = None, steps: int | None = None, clip_norm: float | None = None
) -> Iterator[StackedStep]:
    """Train for `epochs` passes over the batches or for `steps` backward passes, whichever ends first.

    What is yielded after each step is what `gradlab.train` would yield for each run. Training resumes where its
    cursor stands, and moves it.

    Raises:
        CannotStackError: this step can be done by the plain loop alone. Torch raises errors of many kinds in that
            case: whatever is raised here, the plain loop finds out the cause.
    """
    cursor, stack, mode = training.cursor, training.stack, training.stack.members[0].mode
    divided = mode.mean and mode.every > 1
    for batches, window, due in cursor.remaining(partial(draw_together, training.seeds, mode.every), epochs, steps):
        losses, items = training.add_gradients(batches, window if divided else 1)
        by_member = stack.by_member(losses), None if items is None else stack.by_member(items)
        row = StackedStep(cursor.step, cursor.update, cursor.epoch, *by_member)
        if due:
            training.take_step(clip_norm)
            cursor.update += 1
        cursor.step += 1
        cursor.counts_items = items is not None
        yield row
