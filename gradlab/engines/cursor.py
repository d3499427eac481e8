"""The position of a training between two steps, and its remaining batches."""

from __future__ import annotations

from collections import deque
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from gradlab.engines.accumulation import WindowMean
from gradlab.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from torch import Tensor


class Cursor:
    """The position of a training between two steps. Together with model and optimizer, it is enough to resume.

    Attributes:
        step: completed backward passes.
        update: completed optimizer steps.
        epoch: completed passes over the batches.
        drawn: number of batches drawn in the current epoch.
        batch: the batch drawn last.
        counts_items: whether the task's loss is a pair (sum, count); None before the first loss.
        window: the current accumulation window.
        fresh: the gradients of the current window alone, where `GeometryMeter` accumulates them; else empty.
        on_redrawn: called on resuming, after the epoch's earlier batches are drawn again, with the last of them.
        on_evaluation: called between two steps when an evaluation is due, with the number of completed epochs.
        evaluate_every: steps between evaluations; None evaluates at the end of each epoch. The end of the training is
            always evaluated.
        epoch_length: batches per epoch, if known.
    """

    def __init__(self) -> None:
        self.step = self.update = self.epoch = self.drawn = 0
        self.batch: Any = None
        self.counts_items: bool | None = None
        self.window = WindowMean()
        self.fresh: list[Tensor | None] = []
        self.on_redrawn: Callable[[Any], object] = lambda _batch: None
        self.on_evaluation: Callable[[int], object] | None = None
        self.evaluate_every: int | None = None
        self.epoch_length: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return position and window as tensors and plain values."""
        place = [self.step, self.update, self.epoch, self.drawn]
        # "told" is the key in existing checkpoints.
        return {"place": place, "told": self.counts_items, "window": self.window.state_dict(), "fresh": self.fresh}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Move to the position that `state_dict` returned."""
        self.step, self.update, self.epoch, self.drawn = state["place"]
        self.counts_items = state["told"]
        self.window.load_state_dict(state.get("window", {}))
        self.fresh = state.get("fresh", [])

    def remaining(
        self,
        batches: Callable[[int | None], Iterable[tuple[Any, tuple[int, bool]]]],
        epochs: int | None,
        steps: int | None,
    ) -> Iterator[tuple[Any, int, bool]]:
        """Yield the remaining batches until `epochs` or `steps` is reached.

        On resuming, first draw the current epoch's earlier batches again. The caller counts `step` and `update`. An
        evaluation that is due after a step comes before the next batch is yielded, so resuming there repeats it.

        Args:
            batches: takes a maximum number and returns the batches of an epoch, like `accumulation.windows`.
            epochs: total number of passes over the batches.
            steps: total number of backward passes.

        Yields:
            A batch, the size of its window, and whether it is the window's last.

        Raises:
            TaskError: an epoch has no batch.
        """
        assert epochs is not None or steps is not None, "training needs an end"
        for epoch in count(self.epoch) if epochs is None else range(self.epoch, epochs):
            self.epoch = epoch
            left = iter(batches(None if steps is None else steps - self.step + self.drawn))
            if self.drawn:
                again = deque(islice(left, self.drawn), maxlen=1)
                self.on_redrawn(again[0][0] if again else None)
            if self.on_evaluation and self.evaluate_every:
                left = self._evaluated_within(left, self.on_evaluation, self.evaluate_every)
            for self.batch, (window, due) in left:
                self.drawn += 1
                yield self.batch, window, due
            if not self.drawn:
                raise no_batch(epoch)
            if self.on_evaluation:
                self._end_epoch(self.on_evaluation, epochs, steps)
            if self.step == steps:
                return
            self.drawn = 0

    def _evaluated_within(
        self, left: Iterator[Any], on_evaluation: Callable[[int], object], every: int
    ) -> Iterator[Any]:
        """Yield the items of an epoch; between two of them, call for the evaluations that are due."""
        for item in left:
            if self.drawn and self.step % every == 0:
                on_evaluation(self.epoch)
            yield item

    def _end_epoch(self, on_evaluation: Callable[[int], object], epochs: int | None, steps: int | None) -> None:
        """Call for an evaluation at the end of an epoch, if one is due there."""
        has_ended = self.step == steps or self.epoch + 1 == epochs
        if has_ended or not self.evaluate_every or self.step % self.evaluate_every == 0:
            is_cut = self.step == steps and self.drawn != self.epoch_length
            on_evaluation(self.epoch if is_cut else self.epoch + 1)


def no_batch(epoch: int) -> TaskError:
    """Return the error for an epoch without a batch."""
    return TaskError(f"epoch {epoch} has no batch; use a list or a DataLoader, which can be iterated repeatedly")
