"""Graphs that stay alive for many updates after their backward pass.

A marked graph has a mark in the `metadata` of its nodes. Only the nodes hold the mark, so it is deleted with the last
of them. Graphs that are retained for a later pass, which then uses all of them, are not kept by mistake.
"""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit.history.parameters import LOOKS, SPAN_OF_GRAPHS, Graphs

if TYPE_CHECKING:
    from torch import Tensor

    from gradlab.audit.history.history import History
    from gradlab.audit.places import Place

SHORT_SPAN = 16  # instead of SPAN_OF_GRAPHS, if all graphs of a line are alive until the end
MANY = 6  # kept graphs before they are reported
MOST_MARKED = 256  # marked living graphs per line
MOST_SEARCHES = 16  # of later passes for marks of earlier ones
MOST_NODES = 20_000  # read per search


class Mark:
    """Held by the nodes of a graph, so that a weak reference to it shows whether any node is alive."""

    __slots__ = ("__weakref__",)


class _Marked(NamedTuple):
    """A marked graph."""

    mark: weakref.ref[Mark]
    update: int


class KeptGraphs:
    """Tracks graphs by the line of their backward pass, and reports lines that keep all of them."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._marked: dict[Place, list[_Marked]] = {}
        self._looks: dict[Place, list[int]] = {}  # updates with a marked graph
        self._unfreed: dict[Place, Graphs | None] = {}  # lines whose marked graphs are all alive so far
        self.retained: set[Place] = set()  # lines with retain_graph=True
        self._needed: set[Place] = set()  # lines whose graphs a later pass uses
        self._searches = 0

    def look(self, place: Place, update: int, mark: Mark, *, retains: bool) -> None:
        """Check which graphs of this line are alive, and add a new one."""
        if place in self._needed:
            return
        if retains:
            self.retained.add(place)
        if place not in self._marked:
            self._unfreed[place] = None
        marks, looks = _alive(self._marked.get(place, [])), self._looks.setdefault(place, [])
        if _is_growing(marks, looks, update) and self._grows(place, marks):
            if gc.isenabled():
                gc.collect()  # garbage does not count as kept
            marks = _alive(marks)
            if _is_growing(marks, looks, update):
                self._add(place, marks, update)
        if len(marks) < MOST_MARKED and (not looks or looks[-1] < update):
            marks.append(_Marked(weakref.ref(mark), update))
            looks.append(update)
        self._marked[place] = marks
        oldest = marks[0].update if marks else update
        self._looks[place] = [each for each in looks if each >= oldest]

    def note_alive(self) -> None:
        """Check before a pass whether all marked graphs are alive. A line is dropped once one of its graphs is not."""
        if not self._unfreed:
            return
        update = self._history.updates + 1
        for place, known in list(self._unfreed.items()):
            marks = self._marked[place]
            since = marks[0].update if marks else update
            if len(_alive(marks)) < len(marks) or not marks:
                del self._unfreed[place]
            elif update - since >= SHORT_SPAN and len(marks) >= MANY:
                if known is None and gc.isenabled():
                    gc.collect()
                if known is None and len(_alive(marks)) < len(marks):
                    del self._unfreed[place]
                else:
                    self._unfreed[place] = Graphs(place, since, len(marks), update - since, LOOKS)

    def note_use(self, roots: list[Tensor], key: str) -> None:
        """Look in the graph of a pass that retains nothing for marks, under this key, of earlier retained graphs."""
        waiting = {place: _alive(self._marked[place]) for place in self.retained if place in self._marked}
        waiting = {place: marks for place, marks in waiting.items() if len(marks) >= MANY}
        if not waiting or self._searches >= MOST_SEARCHES:
            return
        self._searches += 1
        found = _marks_below(roots, key)
        for place, marks in waiting.items():
            if sum(each.mark() in found for each in marks) >= MANY:
                self._needed.add(place)
                self.retained.discard(place)
                self._unfreed.pop(place, None)
                self._history.graphs.pop(place, None)

    def close(self) -> None:
        """Report lines whose graphs were all alive until the last update of a short training."""
        last = self._history.updates - len(self._history.trained())
        for place, found in self._unfreed.items():
            known = self._history.graphs.get(place)
            if found and found.since + found.updates > last and (known is None or known.looks < LOOKS):
                self._history.graphs[place] = found

    def _grows(self, place: Place, marks: list[_Marked]) -> bool:
        known = self._history.graphs.get(place)
        return known is None or (len(marks) > known.alive and known.looks < LOOKS)

    def _add(self, place: Place, marks: list[_Marked], update: int) -> None:
        known, oldest = self._history.graphs.get(place), marks[0].update
        looks = known.looks + 1 if known and known.since == oldest else 1
        self._history.graphs[place] = Graphs(place, oldest, len(marks), update - oldest, looks)


def _alive(marks: list[_Marked]) -> list[_Marked]:
    return [each for each in marks if each.mark() is not None]


def _marks_below(roots: list[Tensor], key: str) -> set[object]:
    """Return the marks of the nodes below these roots."""
    nodes: list[Any] = [each.grad_fn for each in roots if each.grad_fn is not None]
    seen, marks = set(nodes), set[object]()
    while nodes and len(seen) < MOST_NODES:
        node = nodes.pop()
        marks.add(node.metadata.get(key))
        below = {each for each, _ in node.next_functions if each is not None} - seen
        seen |= below
        nodes += below
    return marks - {None}


def _is_growing(marks: list[_Marked], looks: list[int], update: int) -> bool:
    """Say whether all graphs marked since the oldest one are alive, if they are many and it is old enough."""
    if len(marks) < MANY or update - marks[0].update < SPAN_OF_GRAPHS:
        return False
    return [each.update for each in marks] == [each for each in looks if each >= marks[0].update]
