"""A finding and its evidence: how many updates of a history show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from gradlab.audit.history.keep import ALIKE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradlab.audit.history.history import MeasuredUpdate, OptimizerHistory
    from gradlab.audit.places import Place

LEAST = 3  # updates that must show a mistake before it is reported
Severity = Literal["error", "warning", "note"]


class Finding(NamedTuple):
    """A mistake in a script, or (a note) something worth knowing."""

    id: str  # kebab case
    severity: Severity
    since_update: int  # the first that shows it, counted from 1
    places: tuple[Place, ...]  # the lines of the user's code that do it, sorted
    message: str  # a sentence with its evidence in numbers
    instead: str  # what to write

    @property
    def text(self) -> str:
        """The message and what to write instead, for formats with one text per finding."""
        return f"{self.message}. Instead: {self.instead}"


class CountedUpdates(NamedTuple):
    """The number of updates with a given kind of trace, and the first of them."""

    updates: int
    first: int
    shown: str = ""  # "at 9 of 10 updates"


def count(history: OptimizerHistory, is_one: Callable[[str], bool]) -> CountedUpdates:
    """Count the updates whose trace satisfies `is_one`."""
    stretches = [each for each in history.stretches if is_one(each.trace)]
    return CountedUpdates(sum(each.times for each in stretches), stretches[0].first if stretches else 0)


def measured_of(history: OptimizerHistory, is_one: Callable[[str], bool]) -> list[MeasuredUpdate]:
    """Return the measured updates whose trace satisfies `is_one`."""
    found, stretches = [], iter(history.stretches)
    stretch = next(stretches, None)
    for each in history.measured:
        while stretch and each.update >= stretch.first + stretch.times:
            stretch = next(stretches, None)
        if stretch and is_one(stretch.trace):
            found.append(each)
    return found


def all_is_left(shares: tuple[float, ...]) -> bool:
    """Say whether every share is 1: all of the gradient was kept. False without shares."""
    return bool(shares) and min(shares) >= 1 - ALIKE and max(shares) <= 1 + ALIKE


def counted_measured(shown: Sequence[object], measured: Sequence[object]) -> str:
    """Return the evidence in words: at how many measured updates something was seen."""
    return f"at {len(shown)} of {len(measured)} measured updates"


def nearly_always(
    history: OptimizerHistory, is_one: Callable[[str], bool], of: Callable[[str], bool]
) -> CountedUpdates | None:
    """Count the updates whose trace satisfies `is_one`; None if fewer than nine in ten of those in `of` do."""
    found, might = count(history, is_one), count(history, of)
    if found.updates < LEAST or 10 * found.updates < 9 * might.updates:
        return None
    return found._replace(shown=f"at {found.updates} of {might.updates} updates")
