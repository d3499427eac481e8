"""Graphs of losses: which parameters a backward pass will reach, and which graphs are alive long after it.

A graph is marked by an object that its nodes hold (their `metadata`, which torch has for notes of that kind) and we
do not: it is gone as soon as the last of them is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

MOST_NODES = 20_000
LEAF = "torch::autograd::AccumulateGrad"


class Mark:
    """What the nodes of a graph hold, so that a weak reference to it tells whether any of them is alive."""

    __slots__ = ("__weakref__",)


class Reached(NamedTuple):
    """The leaves of a graph, by id; and whether all of it was seen."""

    leaves: dict[int, Tensor]
    whole: bool


def reached_from(roots: list[Tensor], key: str, mark: Mark | None) -> Reached:
    """Return the leaves below these roots, and mark what lies above them, where it is not by that key already."""
    leaves = {id(each): each for each in roots if each.grad_fn is None and each.requires_grad}
    waiting: list[Any] = [each.grad_fn for each in roots if each.grad_fn is not None]
    seen = set(waiting)
    while waiting and len(seen) < MOST_NODES:
        node = waiting.pop()
        if node.name() == LEAF:
            leaves[id(node.variable)] = node.variable
            continue
        if mark is not None:
            node.metadata.setdefault(key, mark)
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                waiting.append(below)
    return Reached(leaves, not waiting)
