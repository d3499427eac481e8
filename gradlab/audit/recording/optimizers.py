"""The watched optimizers of a script, and the choice of measured updates."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NamedTuple

from gradlab.audit.history.history import OptimizerHistory
from gradlab.audit.recording.names import Namer
from gradlab.audit.recording.watched import WatchedOptimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor
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


class _Family(NamedTuple):
    """Optimizers of one class that hold the same parameters, one after the other: together they count as one."""

    watched: WatchedOptimizer
    parameters: list[list[weakref.ref[Tensor]]]  # by group

    @property
    def lives(self) -> bool:
        """Whether all of its parameters are alive."""
        return all(reference() is not None for group in self.parameters for reference in group)


class WatchedOptimizers:
    """The watched optimizers, at most MOST_OPTIMIZERS.

    An optimizer that is created after the deletion of one with the same class and parameters continues its history.
    Until another optimizer steps, a deleted one waits for such a successor, and passes are recorded for it.
    """

    def __init__(self, history: History) -> None:
        self.namer = Namer()
        self._history = history
        self._by_id: dict[int, WatchedOptimizer] = {}
        self._families: dict[object, _Family] = {}
        self._undecided: list[weakref.ref[Optimizer]] = []  # created before the deletion of another one
        self._waiting: list[_Family] = []  # deleted
        self._without_room: weakref.WeakSet[Optimizer] = weakref.WeakSet()

    def __iter__(self) -> Iterator[WatchedOptimizer]:
        if self._undecided:
            self._decide()
        optimizers = list(self._by_id.values())
        if self._waiting:
            optimizers += [each.watched for each in self._waiting if each.lives]
        return iter(optimizers)

    def __len__(self) -> int:
        if self._undecided:
            self._decide()
        return len(self._by_id) + len(self._waiting)

    def get(self, optimizer: Optimizer) -> WatchedOptimizer | None:
        """Return the watched optimizer, or None if it is not watched."""
        if self._undecided:
            self._decide()
        return self._by_id.get(id(optimizer))

    def stop_waiting(self) -> None:
        """Forget deleted optimizers, because another one has stepped."""
        if self._waiting:
            self._waiting = []

    def add(self, optimizer: Optimizer) -> WatchedOptimizer | None:
        """Watch an optimizer from now on; return None if the limit is reached, or until it may be a successor."""
        family = self._families.get(_family_key(optimizer))
        if family is None or not family.lives:
            return self._add(optimizer)
        if family.watched.optimizer() is not None:  # perhaps `optimizer = SGD(...)` is about to delete that one
            self._undecided.append(weakref.ref(optimizer))
            return None
        self._waiting = [each for each in self._waiting if each is not family]
        self._by_id[id(optimizer)] = family.watched
        family.watched.continue_with(optimizer, self._forget_function(id(optimizer), family))
        return family.watched

    def _decide(self) -> None:
        """Watch optimizers that were created while a possible predecessor was alive."""
        undecided, self._undecided = [reference() for reference in self._undecided], []
        for each in undecided:
            if each is None:
                continue
            family = self._families.get(_family_key(each))
            if family is not None and family.lives and family.watched.optimizer() is None:
                self.add(each)
            else:
                self._add(each)

    def _forget_function(self, key: int, family: _Family) -> Callable[[object], None]:
        own = weakref.ref(self)

        def forget(_: object) -> None:
            if (optimizers := own()) is not None:
                optimizers._by_id.pop(key, None)  # noqa: SLF001 - of this class
                family.watched.step_depth = 0
                if family.watched.history.updates and family in optimizers._families.values():  # noqa: SLF001
                    optimizers._waiting.append(family)  # noqa: SLF001

        return forget

    def _add(self, optimizer: Optimizer) -> WatchedOptimizer | None:
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
        watched = WatchedOptimizer(history, self.namer)
        family = _Family(watched, [[weakref.ref(p) for p in group["params"]] for group in optimizer.param_groups])
        watched.watch(optimizer, self._forget_function(id(optimizer), family), family.parameters)
        self._by_id[id(optimizer)] = watched
        if len(self._families) >= MOST_OPTIMIZERS:
            self._families = {key: each for key, each in self._families.items() if each.lives}
        self._families[_family_key(optimizer)] = family
        return watched

    def _has_room(self, optimizer: Optimizer) -> bool:
        """Say whether one more can be watched; deleted ones without a step make room."""
        known = self._history.optimizers
        if len(known) < MOST_OPTIMIZERS:
            return True
        if optimizer in self._without_room:
            return False
        alive = {id(each.history) for each in self._by_id.values()}
        known[:] = [each for each in known if each.updates or id(each) in alive]
        if len(known) < MOST_OPTIMIZERS:
            return True
        self._without_room.add(optimizer)
        self._history.unwatched += 1
        return False


def _family_key(optimizer: Optimizer) -> object:
    groups = tuple(tuple(id(p) for p in group["params"]) for group in optimizer.param_groups)
    return type(optimizer), groups
