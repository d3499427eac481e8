"""Rules on backward passes: closures, losses of other optimizers, terms without a graph, and graphs kept alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import LEAST, Finding, all_is_left, counted_measured, measured_of
from gradlab.audit.history.history import in_order
from gradlab.audit.history.keep import ALIKE, backwards_per_update, keep_of, losses_of
from gradlab.audit.history.trace import BACKWARDS, CLEARED
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.history.history import History, MeasuredUpdate, OptimizerHistory

VARIES = 1e-4  # of the loss: a difference between values of a term that rounding does not explain


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
    """Find optimizers that also step with gradient left by a loss of another optimizer.

    If nothing is ever cleared, that is the mistake.
    """
    for each in history.trained():
        crossings, keep = each.seen.crossings, keep_of(each)
        if len(crossings) < LEAST or not all(one.mixed for one in crossings):
            continue
        if keep is not None and keep.min >= 1 - ALIKE:
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


def gradient_of_another_pass(history: History) -> Iterator[Finding]:
    """Find steps that also use the gradient of an attack, or of the first pass of sharpness-aware minimization.

    The losses must be equal and whole: halves, or losses of different kinds, are added on purpose. If one function
    takes the pass of the attack and the one that trains, both may be meant to train, and the advice says so.
    """
    for each in history.trained():
        every = backwards_per_update(each) or 0
        read = losses_of(each, every)
        if every < 2 or sum(times for _, times, _ in read) < LEAST or not all(loss.undivided for loss, _, _ in read):
            continue
        attacks, several = each.seen.other_passes, [one for one in each.measured if one.joins]
        if len(attacks) >= LEAST and all(one.left for one in attacks):
            inline = all(one.inline for one in attacks)
            yield Finding(
                "gradient-of-another-pass",
                "warning",
                attacks[0].update,
                tuple(in_order(place for one in attacks for place in one.places)),
                f"{each.name} also uses the gradient of another loss: that of a pass that asks for the gradient of an "
                f"input, such as an attack ({counted_measured(attacks, attacks)})",
                f"{'nothing, if you train on both losses; otherwise ' if inline else ''}"
                "torch.autograd.grad(loss, inputs) instead of that pass; or optimizer.zero_grad() after it, if the "
                "loop accumulates nothing",
            )
        elif every == 2 and _moves_between(each, several):
            yield Finding(
                "gradient-of-another-pass",
                "warning",
                several[0].update,
                tuple(each.places_of(BACKWARDS)),
                f"{each.name} also uses the gradient of the first pass, taken before the weights moved, as in "
                f"sharpness-aware minimization ({counted_measured(several, several)})",
                "optimizer.zero_grad() between the two passes",
            )


def _moves_between(history: OptimizerHistory, several: list[MeasuredUpdate]) -> bool:
    """Say whether weights move between two passes of each update but the first, and nothing is cleared there."""
    shown = [one for one in several if one.away and all_is_left(one.joins)]
    quiet = not any({"o", "L", "k"} & set(trace) for trace, _ in history.traces())
    return quiet and len(shown) >= LEAST and len(shown) >= len(several) - 1


def term_without_graph(history: History) -> Iterator[Finding]:
    """Find losses to which something is added that changes from update to update, but has no gradient."""
    for place, term in history.constant_terms.items():
        if term.without or len(term.values) < LEAST:
            continue
        low, high = min(term.values), max(term.values)
        if not high - low > VARIES * term.largest:  # a number, perhaps 0
            continue
        yield Finding(
            "term-without-graph",
            "warning",
            term.since,
            (place,),
            f"a term of the loss has no graph, so it does not train: between {low:.3g} and {high:.3g} "
            f"(at {len(term.values)} measured updates)",
            "the term without detach(), .item(), .data or no_grad(); or log it apart from the loss",
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
            f"{graphs.updates} updates later, so memory grows until you release them",
            "total += loss.item() or loss.detach(), also for outputs that you keep; hidden.detach() between windows",
        )
