"""Backward passes: in the closure of a step, of another optimizer's loss, and of graphs that are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import LEAST, Finding, all_is_left, counted_measured, measured_of
from gradlab.audit.history.history import in_order
from gradlab.audit.history.trace import CLEARED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.history.history import History, MeasuredUpdate


def _in_closure(trace: str) -> bool:
    return "L" in trace


def closure_without_clearing(history: History) -> Iterator[Finding]:
    """Find closures that add the gradient at each point to that of the points before.

    Several backward passes of one call are accumulation; where weights have moved in between, they are several calls.
    """

    def once(trace: str) -> bool:
        return _in_closure(trace) and not (set(trace) & {*CLEARED, "y"})

    def adds(measured: MeasuredUpdate) -> bool:
        return measured.moved and all_is_left(measured.joins)

    for each in history.trained():
        uncleared = {id(one) for one in measured_of(each, once) if one.kept}
        closures = [one for one in measured_of(each, _in_closure) if one.moved or id(one) in uncleared]
        shown = [one for one in closures if adds(one) or (id(one) in uncleared and all_is_left(one.kept))]
        if len(shown) < LEAST or len(shown) < len(closures):
            continue
        yield Finding(
            "closure-without-clearing",
            "error",
            shown[0].update,
            tuple(each.places_of("L")),
            f"{each.kind}: the closure clears nothing, and adds the gradient at each point that the step tries to "
            f"those before ({counted_measured(shown, closures)})",
            "optimizer.zero_grad() in the closure, before loss.backward()",
        )


def leaking_loss(history: History) -> Iterator[Finding]:
    """Find optimizers that step with what a loss of another one has left in their parameters."""
    for each in history.trained():
        crossings = each.seen.crossings
        if len(crossings) < LEAST or not all(one.mixed for one in crossings):
            continue
        yield Finding(
            "leaking-loss",
            "warning",
            crossings[0].update,
            tuple(in_order(place for one in crossings for place in one.others)),
            f"{each.kind} of {each.parameters} parameters steps with the gradient of a loss too that "
            f"{crossings[0].kind} has stepped for (at all {len(crossings)} updates before whose own one came): "
            "nothing clears it",
            "zero_grad() before its own loss.backward(), or detach() on the way to that loss",
        )


def graph_kept(history: History) -> Iterator[Finding]:
    """Find graphs of backward passes that are alive many updates later, more and more of them."""
    for place, graphs in history.graphs.items():
        if graphs.looks < LEAST:
            continue
        yield Finding(
            "graph-kept",
            "warning",
            graphs.since,
            (place,),
            f"the graphs of all {graphs.alive} backward passes of this line that were looked at were alive up to "
            f"{graphs.updates} updates later: memory grows with each",
            "total += loss.item() or loss.detach(), so too for outputs that are kept; hidden.detach() between windows",
        )
