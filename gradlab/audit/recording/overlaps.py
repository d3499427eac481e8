"""Parameters that two optimizers move: one optimizer has all of a network, another one only some of it."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradlab.audit.history.history import Overlap
from gradlab.audit.history.parameters import LOOKS
from gradlab.audit.history.trace import BACKWARDS
from gradlab.audit.recording.samples import is_zero, sample
from gradlab.audit.recording.wrappers import are_related

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from gradlab.audit.history.history import History
    from gradlab.audit.recording.names import Namer
    from gradlab.audit.recording.watched import WatchedOptimizer

CHECKED = 3  # common parameters whose gradients are read
TURNS = 2 * LOOKS  # steps by turns before the overlap is reported
MOST_NAMED = 64


@dataclass(slots=True)
class _Pair:
    """An optimizer and another one that holds all its parameters and more."""

    since: int  # update of the larger one
    small: int = 0  # steps of the smaller one, for a loss that also reaches the rest of the larger one
    large: int = 0  # steps of the larger one with gradient in common parameters
    turns: int = 0
    reaches_rest: bool = False  # the pass before the last step of the larger one
    last: weakref.ref[WatchedOptimizer] | None = None
    reported: bool = False


class Overlaps:
    """Finds parameters in two optimizers, and reports them to the history."""

    def __init__(self, history: History, namer: Namer) -> None:
        self._history = history
        self._namer = namer
        self._pairs: dict[tuple[int, int], _Pair] = {}

    def look(self, watched: WatchedOptimizer, optimizers: Iterable[WatchedOptimizer]) -> None:
        """Check what a measured step is about to move.

        Two networks with an optimizer each may share a third one for both; this is meant. So is a body whose own loss
        does not reach the rest of the other optimizer.
        """
        held = {id(each): (each, {id(p) for p in each.parameters}) for each in optimizers if each.optimizer()}
        own = held[id(watched)][1] if id(watched) in held else set()
        for other, theirs in held.values():
            if other is watched or not own or not theirs or are_related(watched, other) or own == theirs:
                continue
            if not (own <= theirs or theirs <= own):
                continue
            small, large = (watched, other) if own < theirs else (other, watched)
            rest = held[id(large)][1] - held[id(small)][1]
            if rest <= set().union(*(ids for each, ids in held.values() if each is not large)):
                continue
            common = [p for p in small.parameters if p.requires_grad and p.grad is not None]
            if common and not all(is_zero(sample(p.grad)) for p in common[:CHECKED]):
                self._add(watched, small, large, rest)

    def _add(
        self, watched: WatchedOptimizer, small: WatchedOptimizer, large: WatchedOptimizer, rest: set[int]
    ) -> None:
        pair = self._pairs.setdefault((id(small), id(large)), _Pair(large.history.updates + 1))
        if pair.last is None or pair.last() is not watched:
            pair.turns += 1
            pair.last = weakref.ref(watched)
        reaches_rest = any(each.reached and not each.reached.isdisjoint(rest) for each in large.window.passes[-1:])
        if watched is large:
            pair.large += 1
            pair.reaches_rest = reaches_rest
        else:
            has_just_stepped = not set(large.window.letters) & set(BACKWARDS)
            pair.small += pair.reaches_rest if has_just_stepped else reaches_rest
        enough = min(pair.small, pair.large) >= LOOKS and pair.turns >= TURNS
        if enough and not pair.reported and not self._namer.exhausted:
            pair.reported = True
            common: list[Tensor] = small.parameters
            overlap = Overlap(
                self._namer.name(common[:MOST_NAMED]), len(common), pair.since, small.history, large.history
            )
            self._history.overlaps.append(overlap)
