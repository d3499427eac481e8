"""Single parameters: without an optimizer, without gradient, moving though frozen, not finite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import LEAST, Finding
from gradlab.audit.history.history import in_order
from gradlab.audit.history.parameters import LOOKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradlab.audit.findings.finding import Severity
    from gradlab.audit.history.history import History
    from gradlab.audit.history.parameters import Parameter, Unowned

NAMED = 3  # parameters that are named, of many
NOTHING_MEANT = "nothing, where it is meant"


def listed(parameters: Sequence[Parameter], count: int | None = None) -> str:
    """Return the first few of them by name, and how many more there are.

    >>> from gradlab.audit.history.parameters import Parameter
    >>> listed([Parameter((2,), 0), Parameter((3, 2), None, "weight of Linear")], 7)
    'parameter 0 of shape (2,), weight of Linear and 5 more'
    """
    shown = [str(each) for each in parameters[:NAMED]]
    more = (len(parameters) if count is None else count) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def parameter_without_optimizer(history: History) -> Iterator[Finding]:
    """Find parameters that gradient reaches, that no optimizer holds, and that nothing else moves."""
    unowned = [each for each in history.unowned if not each.instead_of]
    unseen = [each for each in unowned if each.parameter.unseen and each.parameter.training]
    in_eval = [each for each in unowned if not each.parameter.training]
    others = [each for each in unowned if each not in unseen and each not in in_eval]
    if unseen:
        where = unseen[0].parameter.unseen
        why = f"; `{where}` is a plain list, tuple or dict, which model.parameters() does not see"
        yield _unowned(unseen, "error", why, "nn.ModuleList, nn.ModuleDict or nn.ParameterList in its place")
    if others:
        instead = "give them to an optimizer; or requires_grad_(False), where they are meant to stay as they are"
        yield _unowned(others, "warning", "", instead)
    if in_eval:
        why = "; they are in eval mode, and their gradient costs time and memory for nothing"
        yield _unowned(in_eval, "note", why, "requires_grad_(False), where they are meant to stay as they are")


def _unowned(unowned: list[Unowned], severity: Severity, why: str, instead: str) -> Finding:
    return Finding(
        "parameter-without-optimizer",
        severity,
        min(each.since for each in unowned),
        tuple(in_order(place for each in unowned for place in each.places)),
        f"gradient reaches {listed([each.parameter for each in unowned])}, which no optimizer holds and nothing "
        f"moves (seen at {LOOKS} updates or more){why}",
        instead,
    )


def stale_parameter(history: History) -> Iterator[Finding]:
    """Find parameters that were replaced after the optimizer was made: it holds the old ones."""
    stale = [each for each in history.unowned if each.instead_of]
    if stale:
        old = max(each.instead_of for each in stale)
        yield Finding(
            "stale-parameter",
            "error",
            min(each.since for each in stale),
            tuple(in_order(place for each in stale for place in each.places)),
            f"gradient reaches {listed([each.parameter for each in stale])}, which no optimizer holds, while {old} "
            f"that one holds {'is' if old == 1 else 'are'} in no model and without gradient: replaced, it seems "
            f"(seen at {LOOKS} updates or more)",
            "make the optimizer once the model has all of its parameters, or add_param_group()",
        )


def parameter_without_gradient(history: History) -> Iterator[Finding]:
    """Find parameters of an optimizer that no gradient has ever reached, though they ask for it.

    Where it is but a part of them, that may be a layer that is not used: a note.
    """
    stale = any(each.instead_of for each in history.unowned)
    for each in history.trained():
        silent = [one for one in each.seen.silent.values() if one.name or not stale]
        if not silent:
            continue
        everything = each.seen.all_silent
        what = "all that it holds" if everything else f"{len(silent)} of the {each.parameters} that it holds"
        yield Finding(
            "parameter-without-gradient",
            "error" if everything else "note",
            1,
            tuple(each.places_of("S")),
            f"{each.kind}: no gradient has reached {listed(silent)} in any of {each.updates} updates, {what}",
            "give it the parameters that the loss depends on, and look for detach(), .data, .item() or no_grad() on "
            "the way to the loss"
            if everything
            else f"{NOTHING_MEANT}; else look for detach(), .data, .item() or no_grad() on their way to the loss",
        )


def frozen_parameter_moves(history: History) -> Iterator[Finding]:
    """Find parameters that were frozen after their optimizer had trained them, and that it moves nevertheless."""
    for each in history.trained():
        moved = [one for one in each.seen.moved.values() if one.times >= LEAST]
        if not moved:
            continue
        zeros, times = all(one.zeros for one in moved), min(one.times for one in moved)
        why = "zeros, by which momentum and weight decay go on" if zeros else "that of before"
        yield Finding(
            "frozen-parameter-moves",
            "error",
            min(one.since for one in moved),
            tuple(each.places_of("S")),
            f"{each.kind} moves {listed([one.parameter for one in moved])}, which no longer "
            f"{'requires' if len(moved) == 1 else 'require'} grad: .grad is {why} (at {times} updates measured)",
            "p.grad = None when it is frozen, and zero_grad() with set_to_none=True; or take it out of the optimizer",
        )


def gradient_not_finite(history: History) -> Iterator[Finding]:
    """Find inf and nan in what steps took, which have become the weights."""
    for each in history.trained():
        seen = each.seen.not_finite
        if seen is None or seen.times < LEAST:
            continue
        before = f"after update {seen.finite_at}, the last that was seen to be finite, " if seen.finite_at else ""
        sure = seen.since == seen.finite_at + 1
        which = (
            "in all that it holds" if seen.count == each.parameters else f"in {listed(seen.parameters, seen.count)}"
        )
        which = "" if not sure and seen.count == each.parameters else which
        since = f"at update {seen.since}" if sure else f"{before}and at update {seen.since} at the latest"
        yield Finding(
            "gradient-not-finite",
            "error",
            seen.since,
            tuple(each.places_of("BLS")),
            f"{each.kind}: the step took inf or nan for the first time {since}{which and ', '}{which}, and the "
            f"weights are not finite either (at {seen.times} updates measured)",
            "a lower lr or clip_grad_norm_(), or what is finite in the backward pass too, as sqrt(x + eps); "
            + ("torch.autograd.detect_anomaly() tells the operation" if sure else "--sample 1 tells the update"),
        )
