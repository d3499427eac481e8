"""What a history shows of a claim: how many updates were as it says, and what was measured on the way to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradlab.audit.history.keep import ALIKE

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.audit.history.history import MeasuredUpdate, OptimizerHistory

LEAST = 3  # updates that must show it


class Counted(NamedTuple):
    """How many updates have a trace of some kind, and which of them is the first."""

    updates: int
    first: int


def count(history: OptimizerHistory, is_one: Callable[[str], bool]) -> Counted:
    """Count the updates whose trace is one of these."""
    stretches = [each for each in history.stretches if is_one(each.trace)]
    return Counted(sum(each.times for each in stretches), stretches[0].first if stretches else 0)


def measured_of(history: OptimizerHistory, is_one: Callable[[str], bool]) -> list[MeasuredUpdate]:
    """Return what was measured on the way to the updates whose trace is one of these."""
    found, stretches = [], iter(history.stretches)
    stretch = next(stretches, None)
    for each in history.measured:
        while stretch and each.update >= stretch.first + stretch.times:
            stretch = next(stretches, None)
        if stretch and is_one(stretch.trace):
            found.append(each)
    return found


def all_is_left(shares: tuple[float, ...]) -> bool:
    """Say whether all of a gradient was left, in each of these shares; not where there are none."""
    return bool(shares) and min(shares) >= 1 - ALIKE and max(shares) <= 1 + ALIKE
