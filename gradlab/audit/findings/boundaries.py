"""Rules on accumulation windows that begin or end at the wrong micro-batch."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import Finding
from gradlab.audit.findings.windows import EPOCHS, accumulating, is_off_by_one
from gradlab.wording import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.findings.windows import AccumulationWindow, AccumulationWindows
    from gradlab.audit.history.history import History


def first_window_off_by_one(history: History) -> Iterator[Finding]:
    """Find first windows that close too early or one micro-batch late, as with `if i % N == 0` and i from 0."""
    for each, windows in accumulating(history):
        if not is_off_by_one(windows):
            continue
        length, number = windows.firsts[0].passes, 1 + sum(one.times for one in windows.firsts[1:])
        where = f" of each of {number} epochs" if number > 1 else ""
        yield Finding(
            "first-window-off-by-one",
            "warning",
            1,
            tuple(each.places_of("S")),
            f"{each.name}: the first update{where} has {length} backward {plural('pass', length)}, "
            f"the others have {windows.every} ({_others(windows)})",
            f"if (i + 1) % {windows.every} == 0, counting i from 0",
        )


def _others(windows: AccumulationWindows) -> str:
    """Return the evidence in words: at how many other updates the window has the usual length."""
    lengths: Counter[int] = Counter()
    for each in windows.all:
        whole = 0 if each.cleared else each.left
        if each not in windows.firsts:
            lengths[each.passes] += each.times
        elif whole and whole + each.passes == windows.every:
            lengths[windows.every] += each.times
    return f"at {lengths[windows.every]} of {lengths.total()} updates"


def _split(windows: AccumulationWindows, *, cleared: bool) -> list[AccumulationWindow]:
    """Return the windows with passes left over from the epoch before, or none if any epoch ends otherwise."""
    begun = [each for each in windows.all if each.begins]
    shown = [
        each
        for each in begun
        if 0 < each.left < windows.every and each.passes == windows.every and each.cleared == cleared
    ]
    ends = 0 < windows.left < windows.every
    times = sum(each.times for each in shown)
    return shown if len(shown) == len(begun) and times + ends >= EPOCHS else []


def last_window_dropped(history: History) -> Iterator[Finding]:
    """Find gradients left at the end of an epoch and cleared before the next."""
    return _wrongly_ended(history, "last-window-dropped", "are cleared without an update", cleared=True)


def last_window_leaks(history: History) -> Iterator[Finding]:
    """Find gradients left at the end of an epoch and added to the first window of the next."""
    return _wrongly_ended(history, "last-window-leaks", "go into the next epoch's first window", cleared=False)


def _wrongly_ended(history: History, name: str, what: str, *, cleared: bool) -> Iterator[Finding]:
    for each, windows in accumulating(history):
        if shown := _split(windows, cleared=cleared):
            yield Finding(
                name,
                "warning",
                shown[0].first,
                tuple(each.places_of("S")),
                f"{each.name}: an epoch ends with {_passes(shown)}, too few for a window of {windows.every}; their "
                f"gradients {what} ({_times(shown)})",
                f"if (i + 1) % {windows.every} == 0 or i + 1 == len(loader), and divide the last window by its length",
            )


def _passes(windows: list[AccumulationWindow]) -> str:
    low, high = min(each.left for each in windows), max(each.left for each in windows)
    return f"{low} backward {plural('pass', low)}" if low == high else f"{low} to {high} backward passes"


def _times(windows: list[AccumulationWindow]) -> str:
    times = sum(each.times for each in windows)
    return f"seen {times} {plural('time', times)}"
