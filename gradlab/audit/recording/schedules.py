"""Learning-rate schedulers that are made for a number of steps, and the steps that they take."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit.history.setup import Schedule
from gradlab.audit.places import user_location

if TYPE_CHECKING:
    from gradlab.audit.history.history import OptimizerHistory

TOTALS = {  # by class: the attribute with the number of steps after which the learning rate has its last value
    "OneCycleLR": "total_steps",
    "CosineAnnealingLR": "T_max",
    "LinearLR": "total_iters",
    "PolynomialLR": "total_iters",
    "ConstantLR": "total_iters",
}
OF_LAMBDA = "num_training_steps"  # the argument of functions in a LambdaLR, as in Transformers
MOST_SCHEDULES = 64  # per optimizer


class _Known(NamedTuple):
    scheduler: weakref.ref[Any]
    schedule: Schedule | None  # None if it has no end


class Schedules:
    """Counts the steps of schedulers."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}

    def stepped(self, scheduler: Any, history: OptimizerHistory) -> None:
        """Count a step for an optimizer that is about to come."""
        known = self._known.get(id(scheduler))
        if known is None or known.scheduler() is not scheduler:
            known = self._known[id(scheduler)] = _Known(weakref.ref(scheduler), _schedule(scheduler, history))
        if known.schedule is not None:
            known.schedule.steps = max(known.schedule.steps, scheduler.last_epoch + 1)


def _schedule(scheduler: Any, history: OptimizerHistory) -> Schedule | None:
    total = total_steps(scheduler)
    if total is None or len(history.seen.schedules) >= MOST_SCHEDULES:
        return None
    schedule = Schedule(type(scheduler).__name__, total, 0, user_location())
    history.seen.schedules.append(schedule)
    return schedule


def total_steps(scheduler: Any) -> int | None:
    """Return the number of steps that a scheduler is made for; None if it has no end or none is known."""
    total = next((getattr(scheduler, TOTALS[each.__name__], None) for each in _classes(scheduler)), None)
    for each in getattr(scheduler, "lr_lambdas", ()):
        total = total or getattr(each, "keywords", {}).get(OF_LAMBDA)
    return int(total) if isinstance(total, int | float) and 0 < total < float("inf") else None


def _classes(scheduler: Any) -> list[type]:
    return [each for each in type(scheduler).__mro__ if each.__name__ in TOTALS]
