"""The backward passes of a window: which parameters they reach, and which optimizers step for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.history.keep import ALIKE
from gradlab.audit.history.parameters import Crossing, OtherPasses
from gradlab.audit.history.trace import BACKWARDS, CLEARED, backwards_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradlab.audit.recording.watched import WatchedOptimizer
    from gradlab.audit.recording.window import Pass, Window

MOST_CROSSINGS = 512
MOST_PASSES = 512  # per window


def add_pass(window: Window, own: frozenset[int], new: Pass, *, nested: bool) -> None:
    """Add a pass to the window of a measured optimizer if it reaches any of its `own` parameters."""
    passes = window.passes
    if nested and passes:  # the outer pass also reaches what a checkpoint inside it reaches
        last = passes[-1]
        last.reached = last.reached and last.reached | own
    elif own and window.measurement and len(passes) < MOST_PASSES:
        new.after_step = any(each.stepped for each in passes)
        passes.append(new)


def add_step(passes: list[Pass], other: WatchedOptimizer, others_passes: list[Pass]) -> None:
    """Record that another optimizer stepped with the gradient of some of these passes."""
    places = {each.place for each in others_passes if each.place} if passes else ()
    for each in passes:
        if each.place in places:
            each.stepped[id(other)] = other.history.kind


def add_passes_to_history(watched: WatchedOptimizer, passes: list[Pass]) -> None:
    """Store what the passes of a measured update reached, and whether another optimizer's loss was among them."""
    if len(passes) < 2:
        return
    _note_sets(watched, passes)
    if any(each.asked for each in passes) and len(watched.history.seen.other_passes) < MOST_CROSSINGS:
        _note_other_passes(watched, passes)
    if len(watched.history.seen.crossings) < MOST_CROSSINGS:
        _note_crossing(watched, passes)


def _note_other_passes(watched: WatchedOptimizer, passes: list[Pass]) -> None:
    """Record whether the step used the gradient of passes that also reached an input, such as those of an attack."""
    history = watched.history
    letters, joins = history.stretches[-1].trace, history.measured[-1].joins
    own = passes[-backwards_in(letters) :]
    if len(own) != backwards_in(letters) or len(joins) < len(own) - 1:
        return  # some passes were not recorded
    joins = joins[len(joins) - len(own) + 1 :]
    cleared = max((nth for nth, each in enumerate(joins, 1) if each <= ALIKE), default=0)
    if cleared < len(own) - 1:  # passes before the last clearing, such as an attack in an evaluation, don't count
        own, joins = own[cleared:], joins[cleared:]
    *earlier, last = own
    other = [each for each in earlier if each.asked and each.place != last.place]
    if not other and not any(each.asked for each in own):
        return
    kept = not last.asked and all(each >= 1 - ALIKE for each in joins) and "o" not in letters
    lines = tuple(sorted({each.place for each in other if each.place}))
    inline = len(other) == 1 and other[0].function == last.function
    history.seen.other_passes.append(OtherPasses(history.updates, kept and bool(other), lines, inline))


def _note_crossing(watched: WatchedOptimizer, passes: list[Pass]) -> None:
    """Record whether another optimizer's loss left gradient for this optimizer's step.

    Shared losses don't count. Passes from one line belong to a loss that both optimizers train on. A pass that reaches
    only some of the parameters is one of several losses of a shared network. The same holds if all passes come before
    any step, or if every pass belongs to a different optimizer. An example is several heads on one body.
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
    if len(measured.joins) != len(passes) - 1:  # some passes were not recorded
        return
    mixed = min(measured.joins) >= 1 - ALIKE and not (set(between) & {*CLEARED, "y"})
    lines = tuple(sorted({each.place for each in foreign if each.place}))
    kind = next(iter(foreign[0].stepped.values()))
    history.seen.crossings.append(Crossing(history.updates, mixed, lines, kind))


def _are_by_the_same(own: list[Pass], others: list[Pass]) -> bool:
    """Say whether this optimizer's own passes reached only optimizers that stepped for the other passes."""
    stepped = {number for each in others for number in each.stepped}
    return all(each.others <= stepped for each in own)


def _note_sets(watched: WatchedOptimizer, passes: list[Pass]) -> None:
    """Record whether the passes of an update reached different parameters, so that they are not micro-batches.

    Micro-batches may skip a branch too, but a different one in every window, and they share all other parameters.
    """
    letters, seen = watched.history.stretches[-1].trace, watched.history.seen
    own = backwards_in(letters)
    sets = [each.reached for each in passes[-own:] if each.reached]
    if len(passes) != sum(map(letters.count, BACKWARDS)) or len(sets) != own or own < 2:
        return  # some passes were not recorded
    different = set(sets)
    if watched.reached_sets is None and len(different) > 1:
        watched.reached_sets = different
    if len(different) > 1 and (different == watched.reached_sets or _are_disjoint(different)):
        seen.apart += 1
        seen.losses = len(different) if len({sets.count(each) for each in different}) == 1 else own
    else:
        seen.together += 1


def _are_disjoint(sets: Iterable[frozenset[int]]) -> bool:
    """Say whether no two of the sets have a common element."""
    every: set[int] = set()
    for each in sets:
        if not every.isdisjoint(each):
            return False
        every |= each
    return True
