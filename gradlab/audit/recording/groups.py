"""The parameters of an optimizer, by group and place in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    Groups = list[dict[str, Any]]  # an optimizer's param_groups
    Key = tuple[int, int]  # which group, and which of its parameters


def keyed(groups: Groups) -> Iterator[tuple[Key, Tensor]]:
    """Yield every parameter and its key."""
    for group, each in enumerate(groups):
        for nth, p in enumerate(each["params"]):
            yield (group, nth), p


def present(groups: Groups, keys: Sequence[Key]) -> list[tuple[Key, Tensor]]:
    """Return these parameters, except those by which the groups have shrunk."""
    return [
        ((group, nth), groups[group]["params"][nth])
        for group, nth in keys
        if group < len(groups) and nth < len(groups[group]["params"])
    ]


def number_of(groups: Groups, key: Key) -> int:
    """Return the number of a parameter among all of its optimizer, from 0."""
    return sum(len(group["params"]) for group in groups[: key[0]]) + key[1]


def any_has_gradient(groups: Groups) -> bool:
    """Say whether any parameter has a gradient."""
    for group in groups:
        for p in group["params"]:
            if p.grad is not None:
                return True
    return False
