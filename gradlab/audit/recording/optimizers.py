"""The optimizers of a script that are watched, and which of their updates are measured."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from gradlab.audit.history.history import OptimizerHistory
from gradlab.audit.recording.names import Namer
from gradlab.audit.recording.watched import WatchedOptimizer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.optim import Optimizer

    from gradlab.audit.history.history import History

MOST_OPTIMIZERS = 64
FIRST = 8  # updates that are all measured
FIRST_OF_SAMPLED = 2  # such updates where the user says how many are measured
GAP = 23  # updates from one that is measured to the next: a number that no usual window or epoch is a multiple of
SHARE = 8  # or an eighth of those so far, where that is more: what has changed since half of them is seen four times


def next_measured(update: int, sample: int | None) -> int:
    """Return the next update after this one that is to be measured.

    >>> [next_measured(update, None) for update in (1, 8, 23, 184)], [next_measured(update, 10) for update in (1, 2)]
    ([2, 23, 46, 207], [2, 10])
    """
    if sample is not None:
        return update + 1 if update < FIRST_OF_SAMPLED else (update // sample + 1) * sample
    if update < FIRST:
        return update + 1
    return (update // GAP + 1) * GAP if update < GAP * SHARE else update + update // SHARE


class WatchedOptimizers:
    """The optimizers that are alive and watched: so many at most.

    Args:
        history: to write to.
    """

    def __init__(self, history: History) -> None:
        self.namer = Namer()
        self._history = history
        self._by_id: dict[int, WatchedOptimizer] = {}
        self._without_room: weakref.WeakSet[Optimizer] = weakref.WeakSet()

    def __iter__(self) -> Iterator[WatchedOptimizer]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, optimizer: Optimizer) -> WatchedOptimizer | None:
        """Return what is known of an optimizer, None where it is not watched."""
        return self._by_id.get(id(optimizer))

    def add(self, optimizer: Optimizer) -> WatchedOptimizer | None:
        """Watch an optimizer from now on, where there is room."""
        if not self._has_room(optimizer):
            return None
        settings = {
            name: float(value)
            for name, value in optimizer.defaults.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        count = sum(len(group["params"]) for group in optimizer.param_groups)
        history = OptimizerHistory(type(optimizer).__name__, count, settings)
        self._history.optimizers.append(history)
        key, own = id(optimizer), weakref.ref(self)

        def forget(_: object) -> None:
            if (optimizers := own()) is not None:
                optimizers._by_id.pop(key, None)  # noqa: SLF001 - it is our own

        self._by_id[key] = WatchedOptimizer(optimizer, history, self.namer, forget)
        return self._by_id[key]

    def _has_room(self, optimizer: Optimizer) -> bool:
        """Say whether to watch one more; those that are gone and took no step make room."""
        known = self._history.optimizers
        if len(known) < MOST_OPTIMIZERS:
            return True
        if optimizer in self._without_room:
            return False
        alive = {id(each.history) for each in self}
        known[:] = [each for each in known if each.updates or id(each) in alive]
        if len(known) < MOST_OPTIMIZERS:
            return True
        self._without_room.add(optimizer)
        self._history.unwatched += 1
        return False
