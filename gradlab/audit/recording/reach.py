"""Where gradient goes: which parameters it reaches, whose they are, and what becomes of them at the step.

Looks are taken at updates that are measured; at others there is next to nothing to do. Nothing is kept of a tensor but
weak references and a few numbers.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit.history.parameters import Graphs, Moved, NotFinite, Parameter, Unowned
from gradlab.audit.places import here
from gradlab.audit.recording.graphs import Mark, Reached, reached_from
from gradlab.audit.recording.names import parameters_of
from gradlab.audit.recording.passes import Pass, look_back, note_pass, note_step
from gradlab.audit.recording.samples import (
    Sample,
    _all_are_finite,
    _content,
    _is_finite,
    _is_finite_loss,
    _values,
    is_zero,
    sample,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from gradlab.audit.history.history import History
    from gradlab.audit.places import Place
    from gradlab.audit.recording.watched import Groups, Watched

    Key = tuple[int, int]  # a parameter of an optimizer: which group, and which of it

LOOKS = 3  # that must show it before a parameter is told of
SILENT = 8  # updates without any gradient before a parameter is told of
MOST_NAMED = 16  # times that names are looked for
MOST_TOLD = 256  # parameters that are told of
SPAN = 40  # updates that a graph lives on before it counts as kept
FIRST = 8  # updates on the way to all of which graphs are looked at
IN_ROW = 4  # of the later ones, before a pause
PAUSE = 36  # updates
MANY = 6  # graphs kept
MOST_MARKED = 256  # graphs marked and alive, of one line
FEW = 4  # parameters that are named, of many


class Window:
    """What is under way on the way to the next update of one optimizer, and what is known of its parameters."""

    def __init__(self) -> None:
        self.measured = False
        self.counted = 0  # parameters, when last they were looked through
        self.silent: list[Key] = []  # without any gradient so far
        self.trained: set[Key] = set()  # that have once required it
        self.frozen: dict[Key, tuple[object, Sample]] = {}  # and do no more, but have some: before the step
        self.left: dict[Key, Sample] = {}  # the gradients that these had
        self.trusted = False  # for its loss was finite; what is not, for all that, is seen a few updates later
        self.finite_at = 0  # the latest update of which gradients are known to be
        self.passes: list[Pass] = []
        self.sets: set[frozenset[int]] | None = None  # that passes of one window reached, where they differed

    @property
    def needs_end(self) -> bool:
        """Whether something is to be looked at when the step under way ends."""
        return bool(self.measured or self.silent or self.passes)


class _Suspect:
    """A parameter that gradient reaches and no optimizer holds."""

    def __init__(self, tensor: Tensor, since: int) -> None:
        self.tensor = weakref.ref(tensor)
        self.content = _content(tensor)
        self.since = since
        self.seen_at = since  # the update
        self.looks = 1
        self.places: Counter[Place] = Counter()
        self.told: Unowned | None = None


class _Marked(NamedTuple):
    """A graph that was marked."""

    mark: weakref.ref[Mark]
    update: int


class Reach:
    """Hears of passes and steps, and writes the history of single parameters.

    Args:
        history: to write to.
        watched: the optimizers that are watched, by id.
    """

    def __init__(self, history: History, watched: dict[int, Watched]) -> None:
        self._history = history
        self._watched = watched
        self._owned: dict[int, weakref.ref[Tensor]] = {}  # what an optimizer holds or has held
        self._suspects: dict[int, _Suspect | None] = {}  # None: has been seen to move
        self._marked: dict[Place, list[_Marked]] = {}
        self._looks: dict[Place, list[int]] = {}  # updates on the way to which a graph was marked
        self._looked_at = 0  # the update on the way to which graphs were looked at last
        self._in_row = 0  # such updates
        self._named = 0

    # Backward passes

    def backward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, nested: bool, looking: bool) -> None:
        """Look at the loss of a backward pass with these arguments; if `looking`, at what it is going to reach."""
        chosen = kwargs.get("inputs") if kwargs or len(args) < 6 else args[5]
        if chosen is not None:  # it reaches nothing else
            return
        given = args[0] if args else kwargs.get("tensors")
        fine = _is_finite_loss(given)
        for watched in self._watched.values():
            if watched.measuring and not nested:
                self._hear_loss(watched, fine=fine, looking=looking)
        if looking:
            self._look(given, nested=nested)

    def _look(self, given: Any, *, nested: bool) -> None:
        from torch import Tensor

        update = self._looked_at
        place, mark = here(), None if nested else Mark()
        roots = [given] if isinstance(given, Tensor) else [each for each in given or () if isinstance(each, Tensor)]
        reached = reached_from(roots, f"gradlab.{id(self)}", mark)
        held = self._held()
        if place and mark:
            self._look_at_graphs(place, update, mark)
        reaching = frozenset(id(watched) for watched, ids in held if not ids.isdisjoint(reached.leaves))
        for watched, ids in held:
            note_pass(watched, place, reached, ids, reaching, nested=nested)
            if watched.window.silent:
                _strike_off(watched, reached)
        if not nested:
            self._look_for_unowned(reached, held, place, update)

    def is_to_look(self) -> bool:
        """Say whether to look at graphs on the way to the next update: it costs, and a few in a row tell as much."""
        update = self._updates() + 1
        if update != self._looked_at:
            if update - self._looked_at > PAUSE:
                self._in_row = 0
            if update > FIRST and self._in_row >= IN_ROW:
                return False
            self._looked_at = update
            self._in_row += 1
        return True

    def _updates(self) -> int:
        updates = 0
        for each in self._history.optimizers:
            updates += each.updates
        return updates

    def _hear_loss(self, watched: Watched, *, fine: bool, looking: bool) -> None:
        """Hear whether the loss is finite for sure: then weights are, and gradient of the update before was."""
        window, update = watched.window, watched.history.updates
        window.trusted = fine and not looking and (window.trusted or "B" not in watched.letters)
        if fine:
            window.finite_at = update
        elif update and watched.history.seen.not_finite is None:
            groups = watched.groups()
            self._note_not_finite(watched, groups, [key for key, p in _each(groups) if not _is_finite(p)])

    def _held(self) -> list[tuple[Watched, frozenset[int]]]:
        """Return of each optimizer which parameters it holds, by id."""
        held = []
        for watched in self._watched.values():
            parameters = watched.parameters()
            held.append((watched, frozenset(map(id, parameters))))
            for p in parameters:
                known = self._owned.get(id(p))
                if known is None or known() is not p:
                    self._owned[id(p)] = weakref.ref(p)
        return held

    def _is_owned(self, tensor: Tensor) -> bool:
        known = self._owned.get(id(tensor))
        return known is not None and known() is tensor

    def _look_for_unowned(
        self, reached: Reached, held: list[tuple[Watched, frozenset[int]]], place: Place | None, update: int
    ) -> None:
        from torch import nn

        if not any(not ids.isdisjoint(reached.leaves) for _, ids in held):  # as for an attack on a model
            return
        due = []
        for key, leaf in reached.leaves.items():
            suspect = self._suspect(key, leaf, update) if isinstance(leaf, nn.Parameter) else None
            if suspect and not suspect.told:
                suspect.places.update([place] if place else [])
                if suspect.looks >= LOOKS:
                    due.append((suspect, leaf))
        if due and self._named < MOST_NAMED and len(self._history.unowned) < MOST_TOLD:
            self._tell_unowned(due, reached)

    def _suspect(self, key: int, leaf: Tensor, update: int) -> _Suspect | None:
        """Return what is known of a parameter that no optimizer holds; None once it moves: by hand, or by average."""
        suspect = self._suspects.get(key)
        if suspect is not None and suspect.tensor() is not leaf:
            del self._suspects[key]
            suspect = None
        if self._is_owned(leaf) or (suspect and suspect.content != _content(leaf)):
            if suspect and suspect.told:
                self._history.unowned.remove(suspect.told)
            if suspect:
                self._suspects[key] = None
            return None
        if suspect is None and key not in self._suspects:
            suspect = self._suspects[key] = _Suspect(leaf, update)
        elif suspect and update > suspect.seen_at:
            suspect.seen_at = update
            suspect.looks += 1
        return suspect

    def _tell_unowned(self, due: list[tuple[_Suspect, Tensor]], reached: Reached) -> None:
        """Write down parameters that no optimizer holds, and how many old ones one holds in their place.

        The old ones have had no gradient since the optimizer was first seen to step, no model has them, and there are
        some of as many dimensions as each of the new ones.
        """
        silent = [p for each in self._watched.values() for p in _silent(each) if id(p) not in reached.leaves]
        self._named += 1
        named = parameters_of([*(leaf for _, leaf in due), *silent])
        lost = [len(each.shape) for each in named[len(due) :] if not each.name]
        instead_of = len(lost) if {leaf.dim() for _, leaf in due} <= set(lost) else 0
        for (suspect, _), parameter in zip(due, named[: len(due)], strict=True):
            places = tuple(sorted(suspect.places))
            suspect.told = Unowned(parameter, suspect.since, places, instead_of if parameter.name else 0)
            self._history.unowned.append(suspect.told)

    def _look_at_graphs(self, place: Place, update: int, mark: Mark) -> None:
        """Note which graphs of this line are alive, and that there is one more."""
        marked = [each for each in self._marked.get(place, ()) if each.mark() is not None]
        marks, looks = marked, self._looks.setdefault(place, [])
        if _is_growing(marks, looks, update) and self._grows(place, marks):
            if gc.isenabled():
                gc.collect()  # what only waits for that is not kept
            marks = [each for each in marks if each.mark() is not None]
            if _is_growing(marks, looks, update):
                self._note_graphs(place, marks, update)
        if len(marks) < MOST_MARKED and (not looks or looks[-1] < update):
            marks.append(_Marked(weakref.ref(mark), update))
            looks.append(update)
        self._marked[place] = marks
        oldest = marks[0].update if marks else update
        self._looks[place] = [each for each in looks if each >= oldest]

    def _grows(self, place: Place, marked: list[_Marked]) -> bool:
        known = self._history.graphs.get(place)
        return known is None or (len(marked) > known.alive and known.looks < LOOKS)

    def _note_graphs(self, place: Place, marked: list[_Marked], update: int) -> None:
        known, oldest = self._history.graphs.get(place), marked[0].update
        looks = known.looks + 1 if known and known.since == oldest else 1
        self._history.graphs[place] = Graphs(place, oldest, len(marked), update - oldest, looks)

    # Steps

    def step_begins(self, watched: Watched, groups: Groups) -> None:
        """Look at what a step is going to take."""
        window = watched.window
        if window.silent:
            self._look_for_gradient(watched, groups)
        window.measured = watched.measuring
        if not watched.measuring:
            return
        watched.history.note_groups(groups)
        count = watched.history.parameters
        for group, each in enumerate(groups):
            for nth, p in enumerate(each["params"]):
                if not p.requires_grad and p.grad is not None and (group, nth) in window.trained:
                    window.frozen[group, nth] = _values(p), sample(p.grad)
        if count != window.counted or len(window.trained) < count:
            window.trained.update(key for key, p in _each(groups) if p.requires_grad)
        if count != window.counted:
            known = set(window.silent) | {key for key, _ in _first(groups, window.counted)}
            window.silent += [
                key for key, p in _each(groups) if p.grad is None and p.requires_grad and key not in known
            ]
            window.counted = count

    def step_ends(self, watched: Watched, groups: Groups) -> None:
        """Look at what a step has done. It has been counted."""
        window = watched.window
        if window.silent:
            self._look_for_gradient(watched, groups)
        for each in self._watched.values():
            if each is not watched and each.window.passes:
                note_step(each.window.passes, watched)
        passes, window.passes = window.passes, []
        if not window.measured:
            return
        window.measured = False
        seen = watched.history.seen
        look_back(watched, passes)
        frozen, window.frozen = window.frozen, {}
        for key, (before, grad) in frozen.items():
            self._look_at_frozen(watched, groups, key, before, grad)
        self._look_for_not_finite(watched, groups)
        if window.silent and watched.history.updates >= SILENT and not seen.silent:
            self._tell_silent(watched, groups)

    def _look_for_gradient(self, watched: Watched, groups: Groups) -> None:
        """Strike those off that have got gradient at last, or do not ask for any."""
        still = []
        for key, p in _present(groups, watched.window.silent):
            if p.grad is None and p.requires_grad:
                still.append(key)
            else:
                _heard(watched, key)
        watched.window.silent = still

    def _tell_silent(self, watched: Watched, groups: Groups) -> None:
        if self._named >= MOST_NAMED:
            return
        self._named += 1
        told = list(_present(groups, watched.window.silent))[:MOST_TOLD]
        for (key, _), parameter in zip(told, parameters_of([p for _, p in told]), strict=True):
            watched.history.seen.silent[key] = parameter._replace(number=_number(groups, key))
        watched.history.seen.all_silent = len(watched.window.silent) == watched.window.counted

    def _name(self, groups: Groups, keys: list[Key]) -> list[Parameter]:
        """Return parameters of an optimizer as they are told of, by name where one may be looked for."""
        tensors = [groups[group]["params"][nth] for group, nth in keys]
        if self._named >= MOST_NAMED:
            named = [Parameter(tuple(each.shape)) for each in tensors]
        else:
            self._named += 1
            named = parameters_of(tensors)
        return [each._replace(number=_number(groups, key)) for key, each in zip(keys, named, strict=True)]

    def _look_at_frozen(self, watched: Watched, groups: Groups, key: Key, before: object, grad: Sample) -> None:
        """Note that a frozen parameter has moved: by zeros or by an old gradient, and not by one made by hand."""
        window, seen = watched.window, watched.history.seen
        zeros = is_zero(grad)
        old = window.left.get(key) == grad
        window.left[key] = grad
        p = groups[key[0]]["params"][key[1]]
        if p.requires_grad or not (zeros or old) or before is None or _values(p) == before:
            return
        known = seen.moved.get(key)
        if known:
            known.times += 1
        elif len(seen.moved) < MOST_TOLD:
            seen.moved[key] = Moved(self._name(groups, [key])[0], watched.history.updates, zeros)

    def _look_for_not_finite(self, watched: Watched, groups: Groups) -> None:
        """Note gradients that are not finite, where they have made weights that are not finite."""
        window, seen, update = watched.window, watched.history.seen, watched.history.updates
        if seen.not_finite and seen.not_finite.times >= LOOKS:
            return
        if window.trusted and not seen.not_finite:
            return
        if _all_are_finite([p.grad for group in groups for p in group["params"] if p.grad is not None]):
            window.finite_at = update
            return
        keys = [key for key, p in _each(groups) if p.grad is not None and not _is_finite(p.grad)]
        if not keys or all(_is_finite(groups[group]["params"][nth]) for group, nth in keys):
            window.finite_at = update
            return
        if seen.not_finite:
            seen.not_finite.times += 1
        else:
            self._note_not_finite(watched, groups, keys)

    def _note_not_finite(self, watched: Watched, groups: Groups, keys: list[Key]) -> None:
        """Note in which parameters the latest update left what is not finite, if in any."""
        if keys:
            few, seen = self._name(groups, keys[:FEW]), watched.history.seen
            seen.not_finite = NotFinite(watched.history.updates, few, len(keys), watched.window.finite_at)


def _each(groups: Groups) -> Iterator[tuple[Key, Tensor]]:
    for group, each in enumerate(groups):
        for nth, p in enumerate(each["params"]):
            yield (group, nth), p


def _first(groups: Groups, count: int) -> Iterator[tuple[Key, Tensor]]:
    for number, each in enumerate(_each(groups)):
        if number < count:
            yield each


def _present(groups: Groups, keys: list[Key]) -> Iterator[tuple[Key, Tensor]]:
    """Yield these parameters, but for those by which the groups have shrunk."""
    for group, nth in keys:
        if group < len(groups) and nth < len(groups[group]["params"]):
            yield (group, nth), groups[group]["params"][nth]


def _number(groups: Groups, key: Key) -> int:
    return sum(len(group["params"]) for group in groups[: key[0]]) + key[1]


def _silent(watched: Watched) -> list[Tensor]:
    """Return the parameters of an optimizer that ask for gradient and have had none so far."""
    return [p for _, p in _present(watched.groups(), watched.window.silent)]


def _heard(watched: Watched, key: Key) -> None:
    watched.history.seen.silent.pop(key, None)
    watched.history.seen.all_silent = False


def _strike_off(watched: Watched, reached: Reached) -> None:
    """Strike those off the silent ones that gradient is about to reach, though it be cleared before the step."""
    still = []
    for key, p in _present(watched.groups(), watched.window.silent):
        if id(p) in reached.leaves:
            _heard(watched, key)
        else:
            still.append(key)
    watched.window.silent = still


def _is_growing(marked: list[_Marked], looks: list[int], update: int) -> bool:
    """Say whether all the graphs that were marked since the oldest one, many and long ago, are alive."""
    if len(marked) < MANY or update - marked[0].update < SPAN:
        return False
    return [each.update for each in marked] == [each for each in looks if each >= marked[0].update]
