"""The training loop for all runs of an ensemble at once: forward, backward, step if due, keep."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import optimizers
from gradlab.engines.cursor import Cursor
from gradlab.engines.ensemble.batches import BLOCK, CannotStackError, draw_together
from gradlab.engines.ensemble.stack import Member, Stack
from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from gradlab.engines.ensemble.batches import SeedTask
    from gradlab.engines.ensemble.traced_step import TracedSteps
    from gradlab.optimizers import Optimizer, Scheduler
    from gradlab.schedules import Every

    Build = Callable[[Sequence[nn.Parameter]], Optimizer]

CHECK_EVERY = 256  # steps between comparisons of a traced step's losses with the tasks' own


class StackedStep(NamedTuple):
    """The log entry of one step of all runs.

    Attributes:
        step: number of earlier backward passes.
        update: number of earlier optimizer steps.
        epoch: number of earlier passes over the batches.
        losses: one loss per run, in the order of the members.
        items: number of items in each mean loss, per run; None if the task does not count them.
    """

    step: int
    update: int
    epoch: int
    losses: list[float]
    items: list[float] | None = None

    def row(self, member: int) -> Row:
        """Return the row of this member."""
        return Row(self.step, self.update, self.epoch, self.losses[member], self.items[member] if self.items else 1)


class StackedTraining:
    """Runs that train together: tasks, stack, optimizers and position.

    Attributes:
        seeds: one task per seed.
        stack: the stacked runs.
        traced: the traced steps; None if steps cannot be traced.
        optimizers: one per group of the stack, or one for all groups if their options differ.
        schedulers: one per optimizer; None without a schedule.
        scheduler_every: how often they step.
        cursor: the position; its batch is a list with one batch per task.
    """

    def __init__(
        self,
        seeds: Sequence[SeedTask],
        members: Sequence[Member],
        build: Build | Sequence[Build],
        schedule: Callable[[Optimizer], Scheduler | None] | None = None,
        traced: TracedSteps | None = None,
        *,
        scheduler_every: Every = "update",
        joins: bool = True,
    ) -> None:
        """Stack the runs.

        Args:
            seeds: one task per seed.
            members: the runs; their modes must agree in `every` and in how a window is divided.
            build: takes parameters and returns their optimizer; or several such functions, which members refer to by
                number.
            schedule: takes an optimizer and returns its schedule or None.
            traced: traces the steps; requires that every weight gets a gradient in every step.
            scheduler_every: how often the schedules step.
            joins: whether optimizers with different options may be joined to one, for speed.
        """
        assert len({(each.mode.every, each.mode.mean, each.mode.by_batch) for each in members}) == 1
        self.seeds = list(seeds)
        self.traced = traced if traced and not traced.fault else None
        self.stack = Stack([seed.task for seed in seeds], members, deferred=self.traced is not None)
        builds = [build] if callable(build) else build
        made = [builds[group.optimizer](list(group.parameters.values())) for group in self.stack.groups]
        self.optimizers = optimizers.joined(made) if joins and len(builds) > 1 else made
        self.schedulers = [schedule(each) if schedule else None for each in self.optimizers]
        self.scheduler_every = scheduler_every
        self.cursor = Cursor()

    def add_gradients(self, batches: Sequence[Any], window: int) -> tuple[Tensor, Tensor | None]:
        """Add the gradient of each run's loss / `window` to its `.grad`; return losses and items."""
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
            raise CannotStackError("its loss changes between a scalar and a pair (sum, count)")
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
        if self.scheduler_every == "update":
            self.step_schedulers()
        self.stack.keep_gradients()

    def step_schedulers(self) -> None:
        """Set the learning rates of the next updates."""
        for scheduler in self.schedulers:
            if scheduler is not None:
                scheduler.step()

    def _check_traced(self, batches: Sequence[Any], losses: Tensor) -> None:
        """Raise CannotStackError if the losses of a traced step differ from the tasks' by more than rounding."""
        import torch

        with torch.no_grad():
            expected, _ = self.stack.losses(batches)
        near = 1000 * torch.finfo(expected.dtype).eps  # means over a batch, summed in another order
        alike = torch.isclose(losses, expected, rtol=near, atol=near) | ~(losses.isfinite() | expected.isfinite())
        if not alike.all():
            raise CannotStackError("its loss depends on more than weights and batch")


def train(
    training: StackedTraining, *, epochs: int | None = None, steps: int | None = None, clip_norm: float | None = None
) -> Iterator[StackedStep]:
    """Train until `epochs` passes over the batches or `steps` backward passes are reached.

    Every step yields the rows that `gradlab.train` would yield for each run. Training resumes at the training's cursor
    and advances it.

    Raises:
        CannotStackError: a step cannot be stacked. Torch may raise other errors for the same reason. After any error,
            train with `gradlab.train`: it succeeds or reports the cause.
    """
    cursor, stack, mode = training.cursor, training.stack, training.stack.members[0].mode
    divided = mode.mean and mode.every > 1
    # An evaluation within an epoch finds the generators as in the plain loop.
    draw = partial(draw_together, training.seeds, mode.every, block=1 if cursor.evaluate_every else BLOCK)
    epoch = cursor.epoch
    for batches, window, due in cursor.remaining(draw, epochs, steps):
        if cursor.epoch != epoch:
            epoch = cursor.epoch
            if training.scheduler_every == "epoch":
                training.step_schedulers()
        losses, items = training.add_gradients(batches, window if divided else 1)
        by_member = stack.by_member(losses), None if items is None else stack.by_member(items)
        row = StackedStep(cursor.step, cursor.update, cursor.epoch, *by_member)
        if due:
            training.take_step(clip_norm)
            cursor.update += 1
        cursor.step += 1
        cursor.counts_items = items is not None
        yield row
