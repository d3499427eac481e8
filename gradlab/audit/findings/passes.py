"""Rules on backward passes: closures, losses of other optimizers, and graphs kept alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import LEAST, Finding, all_is_left, counted_measured, measured_of
from gradlab.audit.history.history import in_order
from gradlab.audit.history.trace import CLEARED
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.history.history import History, MeasuredUpdate


def _in_closure(trace: str) -> bool:
    return "L" in trace


def closure_without_clearing(history: History) -> Iterator[Finding]:
    """Find closures that add up the gradients of all points they are called at.

    Several backward passes at the same weights are accumulation in one call. If the weights moved in between, the
    closure was called several times.
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
            f"{each.name}: the closure clears nothing, so the gradients of all points that the step tries add up "
            f"({counted_measured(shown, closures)})",
            "optimizer.zero_grad() in the closure, before loss.backward()",
        )


def leaking_loss(history: History) -> Iterator[Finding]:
    """Find optimizers that also step with gradient left by a loss of another optimizer."""
    for each in history.trained():
        crossings = each.seen.crossings
        if len(crossings) < LEAST or not all(one.mixed for one in crossings):
            continue
        yield Finding(
            "leaking-loss",
            "warning",
            crossings[0].update,
            tuple(in_order(place for one in crossings for place in one.others)),
            f"{each.name} with {counted(each.parameters, 'parameter')} also uses gradient that the loss of another "
            f"optimizer ({crossings[0].kind}) left in .grad (at all {len(crossings)} updates that follow such a loss)",
            "zero_grad() before its own loss.backward(), or detach() before the other loss",
        )


def graph_kept(history: History) -> Iterator[Finding]:
    """Find lines whose graphs stay alive for many updates, in growing numbers."""
    for place, graphs in history.graphs.items():
        if graphs.looks < LEAST:
            continue
        yield Finding(
            "graph-kept",
            "warning",
            graphs.since,
            (place,),
            f"the graphs of all {graphs.alive} checked backward passes of this line were still alive up to "
            f"{graphs.updates} updates later, so memory keeps growing",
            "total += loss.item() or loss.detach(), also for outputs that you keep; hidden.detach() between windows",
        )
