"""Where a training stands between two steps, and the batches that it has yet to train on."""

from __future__ import annotations

from collections import deque
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from gradlab.engines.accumulation import WindowMean
from gradlab.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


class Cursor:
    """Where a training stands between two steps: what it needs to resume, besides model and optimizer.

    Attributes:
        step: backward passes done.
        update: optimizer steps done.
        epoch: passes over the batches done.
        drawn: batches drawn of the current epoch.
        batch: the last of these.
        counts_items: whether the task's loss is a pair (sum, count), None until that is known.
        window: the current window of accumulation.
        on_redrawn: called with the last batch drawn before, once it is drawn again and before training resumes.
    """

    def __init__(self) -> None:
        self.step = self.update = self.epoch = self.drawn = 0
        self.batch: Any = None
        self.counts_items: bool | None = None
        self.window = WindowMean()
        self.on_redrawn: Callable[[Any], object] = lambda _batch: None

    def state_dict(self) -> dict[str, Any]:
        """Return position and window in tensors and plain values."""
        place = [self.step, self.update, self.epoch, self.drawn]
        return {"place": place, "told": self.counts_items, "window": self.window.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Move to where the cursor stood that returned this state."""
        self.step, self.update, self.epoch, self.drawn = state["place"]
        self.counts_items = state["told"]
        self.window.load_state_dict(state.get("window", {}))

    def remaining(
        self,
        batches: Callable[[int | None], Iterable[tuple[Any, tuple[int, bool]]]],
        epochs: int | None,
        steps: int | None,
    ) -> Iterator[tuple[Any, int, bool]]:
        """Yield the batches up to `epochs` or `steps`, whichever ends first, after drawing again those of before.

        Whoever trains on a batch counts `step` and `update`.

        Args:
            batches: returns those of an epoch, so many at most, as `accumulation.windows` does.
            epochs: passes over the batches in all.
            steps: backward passes in all.

        Yields:
            A batch, the size of its window, and whether it ends it.

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
            for self.batch, (window, due) in left:
                self.drawn += 1
                yield self.batch, window, due
            if not self.drawn:
                raise no_batch(epoch)
            if self.step == steps:
                return
            self.drawn = 0


def no_batch(epoch: int) -> TaskError:
    """Return the error of an epoch without a batch."""
    return TaskError(f"epoch {epoch} has no batch; batches must be there at every pass: a list, a DataLoader")
