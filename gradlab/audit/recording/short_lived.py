"""Parameters that every pass makes again, as by `nn.Linear(...)` in forward(), and that no optimizer holds."""

from __future__ import annotations

import math
import sys
import weakref
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from gradlab.audit.history.parameters import Parameter, Remade
from gradlab.audit.recording.names import modules_alive
from gradlab.audit.recording.samples import inner, sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from gradlab.audit.history.history import History
    from gradlab.audit.places import Place
    from gradlab.audit.recording.samples import Sample

FEW = 4  # parameters with names in a report
MOST_SEARCHES = 8  # for the modules that hold them
SAME = 0.9  # cosine from which new values continue the old ones, as in an update by hand


class _Seen(NamedTuple):
    """A parameter without optimizer at a look."""

    tensor: weakref.ref[Tensor]
    shape: tuple[int, ...]
    values: Sample


class _Look(NamedTuple):
    update: int
    seen: dict[int, _Seen]  # by id


class ShortLivedParameters:
    """Finds parameters that a loss reaches at one look, and new ones of the same shape at the next."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._last: dict[Place, _Look] = {}  # the latest look, by line of the backward pass
        self._searches = 0

    def look(self, leaves: dict[int, Tensor], place: Place, update: int, is_owned: Callable[[Tensor], bool]) -> None:
        """Check the leaves of a loss, by id, before an update."""
        last = self._last.get(place)
        if last and last.update == update:
            return
        seen = _seen_in(leaves, is_owned)
        if last and seen and not self._history.unwatched:
            made = _made_since(last, seen, leaves)
            if made and not all(alone for _, alone in made):
                beside = self._beside_owned([leaves[key] for key, _ in made], is_owned)
                made = [(key, alone) for key, alone in made if alone or key in beside]
            if made:
                self._add(place, last.update, [leaves[key] for key, _ in made])
        if last or seen:
            self._last[place] = _Look(update, seen)

    def _add(self, place: Place, since: int, made: list[Tensor]) -> None:
        known = self._history.remade.get(place)
        if known is None:
            few = [Parameter(tuple(each.shape)) for each in made[:FEW]]
            self._history.remade[place] = Remade(place, since, few, len(made))
        else:
            known.times += 1

    def _beside_owned(self, made: list[Tensor], is_owned: Callable[[Tensor], bool]) -> set[int]:
        """Return the ids of those that are in one module with parameters of an optimizer.

        Others may be inputs, such as the perturbation of an adversarial attack, or a copy of the model.
        """
        if self._searches >= MOST_SEARCHES:
            return set()
        self._searches += 1
        ids, beside = {id(each) for each in made}, set[int]()
        for module in modules_alive():
            own = {id(p): p for p in module.parameters()}
            if not ids.isdisjoint(own) and any(map(is_owned, own.values())):
                beside |= ids.intersection(own)
        return beside


def _seen_in(leaves: dict[int, Tensor], is_owned: Callable[[Tensor], bool]) -> dict[int, _Seen]:
    from torch import nn

    return {
        key: _Seen(weakref.ref(leaf), tuple(leaf.shape), sample(leaf))
        for key, leaf in leaves.items()
        if isinstance(leaf, nn.Parameter) and not is_owned(leaf)
    }


def _made_since(last: _Look, seen: dict[int, _Seen], leaves: dict[int, Tensor]) -> list[tuple[int, bool]]:
    """Return the parameters that replace earlier ones of the same shape: id, and whether only the graph holds it."""
    lives = {key for key, each in last.seen.items() if key in seen and each.tensor() is leaves[key]}
    gone = [each for key, each in last.seen.items() if key not in lives]
    made = []
    for key, each in seen.items():
        before = None if key in lives else next((one for one in gone if one.shape == each.shape), None)
        if before is None:
            continue
        gone.remove(before)
        alone = sys.getrefcount(leaves[key]) <= _references_of_graph()
        if alone or not _continues(each.values, before.values):
            made.append((key, alone))
    return made


def _continues(now: Sample, then: Sample) -> bool:
    """Say whether these values may come from those by an update."""
    if now == then:
        return False
    return inner(now, then) > SAME * math.sqrt(inner(now, now) * inner(then, then))


@cache
def _references_of_graph() -> int:
    """Return the number of references to a leaf of a graph that nothing else holds."""
    import torch
    from torch import nn

    with torch.enable_grad():
        root = nn.Parameter(torch.zeros(1)) * 1
    leaves = {0: root.grad_fn.next_functions[0][0].variable}  # type: ignore[union-attr]  # it has one
    return sys.getrefcount(leaves[0])
