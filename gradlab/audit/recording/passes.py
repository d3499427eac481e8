"""The backward passes of a window: whose losses they are, by what each of them reaches and who steps for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.history.keep import ALIKE
from gradlab.audit.history.parameters import Crossing
from gradlab.audit.history.trace import BACKWARDS, CLEARED, backwards_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradlab.audit.recording.watched import WatchedOptimizer
    from gradlab.audit.recording.window import Pass, Window

MOST_CROSSINGS = 512
MOST_PASSES = 512  # of one window


def add_pass(window: Window, own: frozenset[int], new: Pass, *, nested: bool) -> None:
    """Add a pass to the window of an optimizer that is measured, where it reaches any of its `own` parameters."""
    passes = window.passes
    if nested and passes:  # what a checkpoint reaches, the pass around it does
        last = passes[-1]
        last.reached = last.reached and last.reached | own
    elif own and window.measurement and len(passes) < MOST_PASSES:
        new.after_step = any(each.stepped for each in passes)
        passes.append(new)


def add_step(passes: list[Pass], other: WatchedOptimizer, others_passes: list[Pass]) -> None:
    """Note that another optimizer has taken a step with what some of these passes left it."""
    places = {each.place for each in others_passes if each.place} if passes else ()
    for each in passes:
        if each.place in places:
            each.stepped[id(other)] = other.history.kind


def add_passes_to_history(watched: WatchedOptimizer, passes: list[Pass]) -> None:
    """Note whose losses the passes of an update that was measured were of."""
    if len(passes) < 2:
        return
    _note_sets(watched, passes)
    if len(watched.history.seen.crossings) < MOST_CROSSINGS:
        _note_crossing(watched, passes)


def _note_crossing(watched: WatchedOptimizer, passes: list[Pass]) -> None:
    """Note whether a pass that another optimizer's step followed has left anything to this one's step.

    Passes at one line are those of a loss that both train by; and one that reaches but a part of what the others do is
    one of several losses of a network that they share. So are passes that all come before any step, and those of which
    each belongs to yet another optimizer, as those of the heads of one body do.
    """
    own = [each for each in passes if not each.stepped]
    others = [each for each in passes if each.stepped]
    if not any(each.after_step for each in own) or not _are_by_the_same(own, others):
        return
    at = {each.place for each in own}
    all_of_it: set[int] = set()
    for each in own:
        all_of_it |= each.reached or frozenset()
    foreign = [each for each in others if each.place and each.place not in at]
    if not foreign or not all_of_it or any(each.reached is None or not each.reached >= all_of_it for each in foreign):
        return
    history = watched.history
    measured = history.measured[-1]
    letters = history.stretches[-1].trace
    between = letters[letters.find("B") : letters.rfind("B")]
    if len(measured.joins) != len(passes) - 1:  # not all of them were looked at
        return
    mixed = min(measured.joins) >= 1 - ALIKE and not (set(between) & {*CLEARED, "y"})
    lines = tuple(sorted({each.place for each in foreign if each.place}))
    kind = next(iter(foreign[0].stepped.values()))
    history.seen.crossings.append(Crossing(history.updates, mixed, lines, kind))


def _are_by_the_same(own: list[Pass], others: list[Pass]) -> bool:
    """Say whether no pass of its own reached an optimizer that has not stepped for any of the others."""
    stepped = {number for each in others for number in each.stepped}
    return all(each.others <= stepped for each in own)


def _note_sets(watched: WatchedOptimizer, passes: list[Pass]) -> None:
    """Note whether the passes of an update have reached different parameters: then they are no micro-batches.

    Micro-batches may pass by a branch, but by another one in each window; and they have the others in common.
    """
    letters, seen = watched.history.stretches[-1].trace, watched.history.seen
    own = backwards_in(letters)
    sets = [each.reached for each in passes[-own:] if each.reached]
    if len(passes) != sum(map(letters.count, BACKWARDS)) or len(sets) != own or own < 2:
        return  # not all of them were looked at
    different = set(sets)
    if watched.reached_sets is None and len(different) > 1:
        watched.reached_sets = different
    if len(different) > 1 and (different == watched.reached_sets or _are_disjoint(different)):
        seen.apart += 1
        seen.losses = len(different) if len({sets.count(each) for each in different}) == 1 else own
    else:
        seen.together += 1


def _are_disjoint(sets: Iterable[frozenset[int]]) -> bool:
    """Say whether no two of them have anything in common."""
    every: set[int] = set()
    for each in sets:
        if not every.isdisjoint(each):
            return False
        every |= each
    return True
