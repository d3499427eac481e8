"""Graphs of backward passes that are alive many updates later.

A graph is marked by an object that its nodes hold (their `metadata`, which torch has for notes of that kind) and we
do not: it is gone as soon as the last of them is.
"""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, NamedTuple

from gradlab.audit.history.parameters import LOOKS, Graphs

if TYPE_CHECKING:
    from gradlab.audit.history.history import History
    from gradlab.audit.places import Place

SPAN = 40  # updates that a graph lives on before it counts as kept
MANY = 6  # graphs kept
MOST_MARKED = 256  # graphs marked and alive, of one line


class Mark:
    """What the nodes of a graph hold, so that a weak reference to it tells whether any of them is alive."""

    __slots__ = ("__weakref__",)


class _Marked(NamedTuple):
    """A graph that was marked."""

    mark: weakref.ref[Mark]
    update: int


class KeptGraphs:
    """Marks graphs by the line of their backward pass, and writes down where all of many live on."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._marked: dict[Place, list[_Marked]] = {}
        self._looks: dict[Place, list[int]] = {}  # updates on the way to which a graph was marked

    def look(self, place: Place, update: int, mark: Mark) -> None:
        """Note which graphs of this line are alive, and that there is one more."""
        marks, looks = _alive(self._marked.get(place, [])), self._looks.setdefault(place, [])
        if _is_growing(marks, looks, update) and self._grows(place, marks):
            if gc.isenabled():
                gc.collect()  # what only waits for that is not kept
            marks = _alive(marks)
            if _is_growing(marks, looks, update):
                self._add(place, marks, update)
        if len(marks) < MOST_MARKED and (not looks or looks[-1] < update):
            marks.append(_Marked(weakref.ref(mark), update))
            looks.append(update)
        self._marked[place] = marks
        oldest = marks[0].update if marks else update
        self._looks[place] = [each for each in looks if each >= oldest]

    def _grows(self, place: Place, marks: list[_Marked]) -> bool:
        known = self._history.graphs.get(place)
        return known is None or (len(marks) > known.alive and known.looks < LOOKS)

    def _add(self, place: Place, marks: list[_Marked], update: int) -> None:
        known, oldest = self._history.graphs.get(place), marks[0].update
        looks = known.looks + 1 if known and known.since == oldest else 1
        self._history.graphs[place] = Graphs(place, oldest, len(marks), update - oldest, looks)


def _alive(marks: list[_Marked]) -> list[_Marked]:
    return [each for each in marks if each.mark() is not None]


def _is_growing(marks: list[_Marked], looks: list[int], update: int) -> bool:
    """Say whether all the graphs that were marked since the oldest one, many and long ago, are alive."""
    if len(marks) < MANY or update - marks[0].update < SPAN:
        return False
    return [each.update for each in marks] == [each for each in looks if each >= marks[0].update]
