"""The watched optimizers of a script, and the choice of measured updates."""

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
FIRST = 100  # updates, all measured
FIRST_OF_SAMPLED = 2  # the same with --sample
GAP = 23  # updates between measured ones; no usual window or epoch length is a multiple of it
SHARE = 8  # later, the gap is an eighth of the updates so far, so a change at half of them is seen four times


def next_measured(update: int, sample: int | None) -> int:
    """Return the next measured update after this one.

    >>> [next_measured(update, None) for update in (1, 99, 100, 184)], [next_measured(update, 10) for update in (1, 2)]
    ([2, 100, 115, 207], [2, 10])
    """
    if sample is not None:
        return update + 1 if update < FIRST_OF_SAMPLED else (update // sample + 1) * sample
    if update < FIRST:
        return update + 1
    return (update // GAP + 1) * GAP if update < GAP * SHARE else update + update // SHARE


class WatchedOptimizers:
    """The living, watched optimizers, at most MOST_OPTIMIZERS."""

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
        """Return the watched optimizer, or None if it is not watched."""
        return self._by_id.get(id(optimizer))

    def add(self, optimizer: Optimizer) -> WatchedOptimizer | None:
        """Watch an optimizer from now on; return None if the limit is reached."""
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
                optimizers._by_id.pop(key, None)  # noqa: SLF001 - of this class

        self._by_id[key] = WatchedOptimizer(optimizer, history, self.namer, forget)
        return self._by_id[key]

    def _has_room(self, optimizer: Optimizer) -> bool:
        """Say whether one more can be watched; deleted ones without a step make room."""
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
