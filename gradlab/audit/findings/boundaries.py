"""Rules on accumulation windows that begin or end at the wrong micro-batch."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import Finding, count
from gradlab.audit.findings.windows import EPOCHS, accumulating, is_off_by_one
from gradlab.audit.history.history import MOST_WASTED
from gradlab.audit.history.keep import emptied_between, gathered_per_update, losses_of, of_micro_batches
from gradlab.audit.history.trace import own_part
from gradlab.wording import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.findings.windows import AccumulationWindow, AccumulationWindows
    from gradlab.audit.history.history import History, OptimizerHistory, WastedPasses

OWN_LENGTH = "divide the losses of that window by its own length"


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
            f"if (i + 1) % {windows.every} == 0, counting i from 0"
            + (f", or at the last batch of an epoch; {OWN_LENGTH}" if _leaves_a_part(windows) else ""),
        )


def _leaves_a_part(windows: AccumulationWindows) -> bool:
    """Say whether an epoch has no multiple of the usual window length, so that its last window is shorter."""
    ends = [(each.left, each.passes) for each in windows.firsts if each.begins]
    return any((left + passes) % windows.every for left, passes in ends)


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
    """Find gradients left at the end of an epoch and cleared before the next.

    A whole window counts if every look shows that its passes were meant to train. Without a DataLoader, an epoch ends
    where passes are cleared after equally many updates each time.
    """
    yield from _wrongly_ended(history, "last-window-dropped", "are cleared without an update", cleared=True)
    for each in history.trained():
        every = _usual_length(each)
        at_end = [one for one in each.wasted if one.at_end]
        dropped = at_end or each.wasted
        if every < 2 or not dropped or any(one.used != every or one.wasted > every for one in dropped):
            continue
        whole = all(one.wasted == every for one in dropped)
        if not _train(dropped) or not (_at_each_end(each, dropped) and whole if at_end else _regular(each, dropped)):
            continue
        low, high = min(one.wasted for one in dropped), max(one.wasted for one in dropped)
        passes = f"{low} backward {plural('pass', low)}" if low == high else f"{low} to {high} backward passes"
        where = (
            "at the end of each epoch" if at_end else f"after every {dropped[1].update - dropped[0].update} updates"
        )
        yield Finding(
            "last-window-dropped",
            "warning",
            dropped[0].update,
            tuple(each.places_of("S")),
            f"{each.name}: the gradient of {passes} is thrown away {where}: it is cleared without an update "
            f"(seen {len(dropped)} {plural('time', len(dropped))})",
            "optimizer.step() after the last window of an epoch too, before zero_grad()"
            + ("" if whole else f"; {OWN_LENGTH}"),
        )


def _usual_length(history: OptimizerHistory) -> int:
    """Return the usual number of backward passes that count for an update, or 0 if they are no micro-batches."""
    every = gathered_per_update(history) or 0
    moved = any(each.moved for each in history.measured)
    return 0 if moved or emptied_between(history) or not of_micro_batches(history, every) else every


def _train(dropped: list[WastedPasses]) -> bool:
    """Say whether wasted passes were meant to train, at all looks."""
    known = [one.training for one in dropped if one.training is not None]
    return len(known) >= EPOCHS and all(known)


def _at_each_end(history: OptimizerHistory, dropped: list[WastedPasses]) -> bool:
    """Say whether passes were wasted before all updates in which an epoch ended or began, as far as it is recorded."""
    return count(history, lambda trace: "b" in own_part(trace)).updates == len(dropped)


def _regular(history: OptimizerHistory, dropped: list[WastedPasses]) -> bool:
    """Say whether equally many passes were wasted after a fixed number of updates, from the first one on."""
    alike = len({one.wasted for one in dropped}) == 1
    return alike and _are_regular([one.update for one in dropped], history.updates)


def _are_regular(found: list[int], updates: int) -> bool:
    """Say whether updates come at equal distances, as the first ones of all epochs but the first do."""
    gap = found[0] - 1
    expected = list(range(gap + 1, updates + 1, gap)) if gap > 1 else []
    return len(found) >= EPOCHS and found == expected[:MOST_WASTED]


def last_window_leaks(history: History) -> Iterator[Finding]:
    """Find gradients left at the end of an epoch and added to the first window of the next.

    Without a DataLoader, such windows are known from their length. They come after a fixed number of usual ones, but
    their losses are divided by the usual length.
    """
    yield from _wrongly_ended(history, "last-window-leaks", "go into the next epoch's first window", cleared=False)
    for each, windows in accumulating(history):
        every = windows.every
        longer = [one for one in windows.all if one.passes != every]
        lengths = {one.passes for one in longer}
        if any(one.begins for one in windows.all) or len(lengths) != 1 or not every < min(lengths) < 2 * every:
            continue
        firsts = [one.first + nth for one in longer for nth in range(one.times)]
        length, divided = lengths.pop(), losses_of(each, every)
        over = [*divided, *losses_of(each, length)]
        if not _are_regular(firsts, each.updates) or len(over) == len(divided) or not divided:
            continue
        if all(loss.over(every) for loss, _, _ in over):
            yield Finding(
                "last-window-leaks",
                "warning",
                firsts[0],
                tuple(each.places_of("S")),
                f"{each.name}: every {firsts[0] - 1} updates, a window has {length} backward passes, not {every}, "
                f"as if an epoch left {length - every} of them, but divides by {every} (seen {len(firsts)} times)",
                f"optimizer.step() at the last batch of an epoch too, as with if (i + 1) % {every} == 0 or i + 1 == "
                f"len(batches); {OWN_LENGTH}",
            )


def _wrongly_ended(history: History, name: str, what: str, *, cleared: bool) -> Iterator[Finding]:
    for each, windows in accumulating(history):
        meant = not any(one.training is False for one in each.wasted)
        if (shown := _split(windows, cleared=cleared)) and meant:
            yield Finding(
                name,
                "warning",
                shown[0].first,
                tuple(each.places_of("S")),
                f"{each.name}: an epoch ends with {_passes(shown)}, too few for a window of {windows.every}; their "
                f"gradients {what} ({_times(shown)})",
                f"optimizer.step() at the last batch of an epoch too, as with if (i + 1) % {windows.every} == 0 or "
                f"i + 1 == len(loader); {OWN_LENGTH}",
            )


def _passes(windows: list[AccumulationWindow]) -> str:
    low, high = min(each.left for each in windows), max(each.left for each in windows)
    return f"{low} backward {plural('pass', low)}" if low == high else f"{low} to {high} backward passes"


def _times(windows: list[AccumulationWindow]) -> str:
    times = sum(each.times for each in windows)
    return f"seen {times} {plural('time', times)}"
