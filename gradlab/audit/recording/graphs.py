"""Inspection of a loss's graph before its backward pass: the parameters and optimizers that it reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit.places import user_function, user_location
from gradlab.audit.recording.constant_terms import ConstantTerms
from gradlab.audit.recording.kept_graphs import KeptGraphs, Mark
from gradlab.audit.recording.passes import add_pass
from gradlab.audit.recording.samples import is_finite_number
from gradlab.audit.recording.scaling import SCALED, factor_of_unscaled
from gradlab.audit.recording.short_lived import ShortLivedParameters
from gradlab.audit.recording.unowned import UnownedParameters
from gradlab.audit.recording.window import Pass

if TYPE_CHECKING:
    from torch import Tensor

    from gradlab.audit.history.history import History
    from gradlab.audit.recording.optimizers import WatchedOptimizers

FIRST = 8  # updates, all with inspected graphs
IN_ROW = 4  # later inspected updates before a pause
PAUSE = 36  # updates
EARLY, EARLY_PAUSE = 100, 16  # shorter pauses in the first updates
MOST_NODES = 20_000
TWICE = "BackwardBackward"  # in names of nodes that differentiate a gradient
LEAF = "torch::autograd::AccumulateGrad"


class LossGraphs:
    """Inspects the losses of measured updates. It keeps only weak references and a few numbers of tensors."""

    def __init__(self, history: History, optimizers: WatchedOptimizers, *, reads_terms: bool) -> None:
        self._history = history
        self._optimizers = optimizers
        self._unowned = UnownedParameters(history, optimizers.namer)
        self._kept = KeptGraphs(history)
        self._short_lived = ShortLivedParameters(history)
        self._terms = ConstantTerms(history) if reads_terms else None
        self._looked_at = 0  # the latest update with inspected graphs
        self._in_row = 0  # such updates since the last pause
        self._key = f"gradlab.{id(self)}"  # of marks

    def are_due(self) -> bool:
        """Say whether to inspect graphs for the next update: this is slow, and a few in a row are enough."""
        update = self._history.updates + 1
        if update != self._looked_at:
            if update - self._looked_at > (PAUSE if update > EARLY else EARLY_PAUSE):
                self._in_row = 0
            if update > FIRST and self._in_row >= IN_ROW:
                return False
            self._looked_at = update
            self._in_row += 1
        return True

    def look(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, nested: bool, due: bool) -> None:
        """Inspect the loss of a backward pass with these arguments, and its graph if `due`."""
        inputs = kwargs.get("inputs") if kwargs or len(args) < 6 else args[5]
        if inputs is not None:  # the pass reaches only these
            return
        loss = args[0] if args else kwargs.get("tensors")
        retains = any(args[2:4]) or bool(kwargs.get("retain_graph") or kwargs.get("create_graph"))
        if not nested:
            self._kept.note_alive()
        if self._kept.retained and not (nested or retains):
            self._kept.note_use(_roots(loss), self._key)
        finite = is_finite_number(loss)
        for each in self._optimizers if not nested else ():
            if each.window.measurement:
                each.checks.loss_is(each.groups, finite=finite, graph_read=due, first="B" not in each.window.letters)
        if due:
            given = args[1] if len(args) > 1 else kwargs.get("grad_tensors")
            self._look_at_graph(loss, nested=nested, given=given is not None, retains=retains)

    def close(self) -> None:
        """Report graphs that were alive until the end."""
        self._kept.close()

    def _look_at_graph(self, loss: Any, *, nested: bool, given: bool, retains: bool) -> None:
        update, roots = self._looked_at, _roots(loss)
        place, function, mark = user_location(), user_function(), None if nested else Mark()
        reached = reached_from(roots, self._key, mark)
        factor = None if reached.scaled or not reached.whole else factor_of_unscaled(roots, given=given)
        held = []
        for watched in self._optimizers:
            parameters = watched.parameters
            held.append((watched, frozenset(map(id, parameters))))
            self._unowned.add_owned(parameters)
        if place and mark:
            self._kept.look(place, update, mark, retains=retains)
        reaching = frozenset(id(watched) for watched, ids in held if not ids.isdisjoint(reached.leaves))
        asked = not reached.twice and any(self._unowned.is_input(each) for each in reached.leaves.values())
        for watched, ids in held:
            own, others = ids.intersection(reached.leaves), reaching - {id(watched)}
            made = Pass(place, function, own if reached.whole else None, others, asked=asked, unscaled_factor=factor)
            add_pass(watched.window, own, made, nested=nested)
            watched.history.seen.asked += bool(own) and asked and not nested
            watched.checks.loss_reaches(watched.groups, reached.leaves)
        if nested:
            return
        if self._terms and reaching and place and not given:
            self._terms.look(roots, place, update)
        if reaching:  # otherwise it may be an adversarial attack
            self._unowned.look(reached.leaves, place, update, self._silent)
            if place and reached.whole:
                self._short_lived.look(reached.leaves, place, update, self._unowned.is_owned)
        elif any(watched.finds_nothing for watched, _ in held):  # or the model was exchanged
            self._unowned.look(reached.leaves, place, update, self._without_gradient, only_stale=True)

    def _without_gradient(self) -> list[Tensor]:
        return [p for each in self._optimizers if each.finds_nothing for p in each.parameters]

    def _silent(self) -> list[Tensor]:
        return [p for each in self._optimizers for p in each.checks.silent_parameters(each.groups)]


def _roots(loss: Any) -> list[Tensor]:
    """Return the tensors that a backward pass begins at."""
    from torch import Tensor

    return [loss] if isinstance(loss, Tensor) else [each for each in loss or () if isinstance(each, Tensor)]


class Reached(NamedTuple):
    """The leaves of a graph, by id."""

    leaves: dict[int, Tensor]
    whole: bool  # the whole graph was read
    twice: bool  # it contains gradients, as in a penalty or a differential equation
    scaled: bool  # a GradScaler scaled a part of it


def reached_from(roots: list[Tensor], key: str, mark: Mark | None) -> Reached:
    """Return the leaves below these roots, and mark the other nodes unless they have a mark under this key."""
    leaves = {id(each): each for each in roots if each.grad_fn is None and each.requires_grad}
    waiting: list[Any] = [each.grad_fn for each in roots if each.grad_fn is not None]
    seen, twice, scaled = set(waiting), False, False
    while waiting and len(seen) < MOST_NODES:
        node = waiting.pop()
        name = node.name()
        twice = twice or TWICE in name
        if name == LEAF:
            leaves[id(node.variable)] = node.variable
            continue
        metadata = node.metadata
        scaled = scaled or SCALED in metadata
        if mark is not None:
            metadata.setdefault(key, mark)
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                waiting.append(below)
    return Reached(leaves, not waiting, twice, scaled)
