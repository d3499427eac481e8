"""Accumulation windows, read from traces.

A window holds the backward passes of one update. If a new epoch begins within it, the window has two parts: backward
passes left over from the old epoch, and those since.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from gradlab.audit.findings.finding import LEAST
from gradlab.audit.history.keep import emptied_between, gathered_per_update, of_micro_batches
from gradlab.audit.history.trace import last_try, only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.history.history import History, OptimizerHistory

EPOCHS = 2  # epochs that must show a mistake before it is reported
STRANGE = "Ly0"  # closures, partly cleared models, steps without gradient: rules on windows ignore them
COUNTING = "Bzneb"  # letters that define a window
ONE = re.compile(r"z*(B+)")
TWO = re.compile(r"z*(B*)([ezb]*b[ezb]*)(B+)")
LEFT = re.compile(r"z*(B+)[ez]*e[ez]*")


class AccumulationWindow(NamedTuple):
    """The backward passes that led to each of some equal updates in a row."""

    first: int  # number of the first of these updates
    times: int
    left: int  # backward passes left over from the epoch before
    cleared: bool  # whether these were cleared before the next pass
    passes: int  # backward passes since then
    begins: bool  # whether it is the first of an epoch


class AccumulationWindows(NamedTuple):
    """The windows of one optimizer."""

    all: list[AccumulationWindow]
    every: int  # the usual number of backward passes, at least 2
    left: int  # backward passes after the last update, left by the last epoch
    whole: bool = True  # recorded from the first update on

    @property
    def firsts(self) -> list[AccumulationWindow]:
        """The first window of every epoch, including the very first."""
        return [each for nth, each in enumerate(self.all) if each.begins or (self.whole and nth == 0)]

    @property
    def short(self) -> list[AccumulationWindow]:
        """Windows with fewer backward passes than usual, except the first ones of epochs."""
        return [each for nth, each in enumerate(self.all) if nth and not each.begins and each.passes < self.every]


def window_of(trace: str, first: int, times: int) -> AccumulationWindow | None:
    """Return the window that a trace shows, or None if it is not a window of micro-batches.

    >>> window_of("BebBBB", 4, 1)
    AccumulationWindow(first=4, times=1, left=1, cleared=False, passes=3, begins=True)
    """
    part = last_try(trace)
    if any(letter in part for letter in STRANGE):
        return None
    letters = only(COUNTING, part).replace("n", "z")
    if "b" not in letters:
        found = ONE.fullmatch(letters.replace("e", ""))  # prefetching ends an epoch before its last pass
        return AccumulationWindow(first, times, 0, False, len(found[1]), False) if found else None
    found = TWO.fullmatch(letters)
    if not found:
        return None
    return AccumulationWindow(first, times, len(found[1]), "z" in found[2], len(found[3]), True)


def windows_of(history: OptimizerHistory) -> AccumulationWindows | None:
    """Return the windows of an optimizer, or None if it does not accumulate or a trace shows no window."""
    usual = gathered_per_update(history) or 0
    if (
        emptied_between(history)
        or any(each.moved for each in history.measured)
        or not of_micro_batches(history, usual)
    ):
        return None
    found = []
    whole = bool(history.stretches) and "B" in history.stretches[0].trace  # else the watch began later
    for each in history.stretches if whole else history.stretches[1:]:
        window = window_of(each.trace, each.first, each.times)
        if window is None:
            return None
        found.append(window)
    if not found:
        return None
    every = _usual(Counter(), found, across=False)
    if every == 1:  # an epoch may be as long as a window, and its first micro-batch may close the window before
        every = _usual(Counter(), found, across=True)
    ending = LEFT.fullmatch(only(COUNTING, last_try(history.pending)).replace("n", "z"))
    return AccumulationWindows(found, every, len(ending[1]) if ending else 0, whole)


def _usual(counted: Counter[int], windows: list[AccumulationWindow], *, across: bool) -> int:
    """Return the most frequent window length; `across` counts backward passes left over from the epoch before."""
    for each in windows:
        counted[each.passes + (each.left if across and not each.cleared else 0)] += each.times
    return max(counted, key=lambda passes: (counted[passes], passes))


def accumulating(history: History) -> Iterator[tuple[OptimizerHistory, AccumulationWindows]]:
    """Yield every optimizer that accumulates, with its windows."""
    for each in history.trained():
        windows = windows_of(each)
        if windows is not None and windows.every > 1:
            yield each, windows


def is_off_by_one(windows: AccumulationWindows) -> bool:
    """Say whether the first window of every epoch has just one backward pass, or one too many."""
    every, firsts = windows.every, windows.firsts
    if not firsts:
        return False
    length = firsts[0].passes
    alike = all(each.passes == length for each in firsts) and (firsts[0].begins or firsts[0].times == 1)
    if length not in {1, every + 1} or every == length or not alike:
        return False
    others = [each for each in windows.all if each not in firsts]
    across = [each for each in firsts if each.left + each.passes == every and not each.cleared]
    usual = sum(each.times for each in [*across, *others] if each in across or each.passes == every)
    if len(firsts) > 1:
        return usual >= LEAST and all(each.passes <= every for each in others)
    return length == 1 and usual >= LEAST and all(each.passes == every for each in others)
