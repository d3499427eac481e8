"""Optimizers around other optimizers, such as Lookahead: one of them is judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.places import steps_under_way

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradlab.audit.recording.watched import WatchedOptimizer


def note_wrapper(watched: WatchedOptimizer, optimizers: Iterable[WatchedOptimizer]) -> None:
    """Record whether a step that begins runs within the step of an optimizer around it.

    If both hold the same parameters, the inner one is judged, because only it computes an update. If the outer one
    holds more, it is judged, because it combines several.
    """
    if watched.outer is not None:
        return
    for each in optimizers:
        if each is watched or not each.step_depth or not steps_under_way(each.optimizer()):
            continue
        own, outer = set(map(id, watched.parameters)), set(map(id, each.parameters))
        if own and own <= outer:
            watched.outer = each
            each.inner = watched if own == outer else each.inner
            (each if own == outer else watched).history.covered = True


def are_related(one: WatchedOptimizer, other: WatchedOptimizer) -> bool:
    """Say whether one of them is around the other, or a third one is around both."""
    return one.outer is other or other.outer is one or (one.outer is not None and one.outer is other.outer)
