"""A finding, and what it rests on: how many updates of a history show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from gradlab.audit.history.keep import ALIKE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradlab.audit.history.history import MeasuredUpdate, OptimizerHistory
    from gradlab.audit.places import Place

LEAST = 3  # updates that must show it
Severity = Literal["error", "warning", "note"]


class Finding(NamedTuple):
    """What a script does that it should not, or (a note) what one should know of."""

    id: str  # in kebab case
    severity: Severity
    since_update: int  # the first that shows it; they are counted from 1
    places: tuple[Place, ...]  # the lines of the user's code that do it, by file and line
    message: str  # a sentence, with the numbers that it rests on
    instead: str  # what to write


class CountedUpdates(NamedTuple):
    """How many updates have a trace of some kind, and which of them is the first."""

    updates: int
    first: int
    shown: str = ""  # at how many, of how many, in words


def count(history: OptimizerHistory, is_one: Callable[[str], bool]) -> CountedUpdates:
    """Count the updates whose trace is one of these."""
    stretches = [each for each in history.stretches if is_one(each.trace)]
    return CountedUpdates(sum(each.times for each in stretches), stretches[0].first if stretches else 0)


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


def counted_measured(shown: Sequence[object], measured: Sequence[object]) -> str:
    """Say at how many of the updates measured something was seen."""
    return f"at {len(shown)} of {len(measured)} updates measured"


def nearly_always(
    history: OptimizerHistory, is_one: Callable[[str], bool], of: Callable[[str], bool]
) -> CountedUpdates | None:
    """Count the updates whose trace is one of these; None where they are not nearly all of those that might be."""
    found, might = count(history, is_one), count(history, of)
    if found.updates < LEAST or 10 * found.updates < 9 * might.updates:
        return None
    return found._replace(shown=f"at {found.updates} of {might.updates} updates")
