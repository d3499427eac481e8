"""Rules on parameters: without an optimizer, without gradient, frozen but moving, not finite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import LEAST, Finding
from gradlab.audit.history.history import in_order
from gradlab.audit.history.parameters import LOOKS
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gradlab.audit.findings.finding import Severity
    from gradlab.audit.history.history import History
    from gradlab.audit.history.parameters import Parameter, Unowned

NAMED = 3  # parameters that a message names
NOTHING_MEANT = "nothing, if you meant it"


def listed(parameters: Sequence[Parameter], count: int | None = None) -> str:
    """Return the names of the first few parameters and the number of the others.

    >>> from gradlab.audit.history.parameters import Parameter
    >>> listed([Parameter((2,), 0), Parameter((3, 2), None, "weight of Linear")], 7)
    'parameter 0 of shape (2,), weight of Linear and 5 more'
    """
    shown = [str(each) for each in parameters[:NAMED]]
    more = (len(parameters) if count is None else count) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def parameter_without_optimizer(history: History) -> Iterator[Finding]:
    """Find parameters that gradient reaches, but no optimizer holds and nothing else moves."""
    unowned = [each for each in history.unowned if not each.instead_of]
    unseen = [each for each in unowned if each.parameter.unseen and each.parameter.training]
    in_eval = [each for each in unowned if not each.parameter.training]
    others = [each for each in unowned if each not in unseen and each not in in_eval]
    if unseen:
        where = unseen[0].parameter.unseen
        why = f"; `{where}` is a plain list, tuple or dict, so model.parameters() does not include its contents"
        yield _unowned(unseen, "error", why, "nn.ModuleList, nn.ModuleDict or nn.ParameterList")
    if others:
        instead = "pass them to an optimizer, or requires_grad_(False) if they should stay fixed"
        yield _unowned(others, "warning", "", instead)
    if in_eval:
        why = "; they are in eval mode, so computing their gradient wastes time and memory"
        yield _unowned(in_eval, "note", why, "requires_grad_(False), if they should stay fixed")


def _unowned(unowned: list[Unowned], severity: Severity, why: str, instead: str) -> Finding:
    them = "it" if len(unowned) == 1 else "them"
    return Finding(
        "parameter-without-optimizer",
        severity,
        min(each.since for each in unowned),
        tuple(in_order(place for each in unowned for place in each.places)),
        f"gradient reaches {listed([each.parameter for each in unowned])}, but no optimizer holds {them} and nothing "
        f"else moves {them} (seen at {LOOKS} updates or more){why}",
        instead,
    )


def parameter_made_in_forward(history: History) -> Iterator[Finding]:
    """Find parameters that every pass makes again, so that no optimizer can train them."""
    for place, made in history.remade.items():
        if made.times >= LEAST:
            are, them = ("is", "it") if made.count == 1 else ("are", "them")
            yield Finding(
                "parameter-made-in-forward",
                "error",
                made.since,
                (place,),
                f"gradient reaches {listed(made.parameters, made.count)}, which {are} new in "
                f"every pass, so no optimizer trains {them} (at {made.times} "
                "updates whose graphs were read)",
                "create layers and parameters once, in __init__(), before the optimizer",
            )


def stale_parameter(history: History) -> Iterator[Finding]:
    """Find parameters that were replaced after the optimizer was created, which still holds the old ones."""
    stale = [each for each in history.unowned if each.instead_of]
    if stale:
        old = max(each.instead_of for each in stale)
        yield Finding(
            "stale-parameter",
            "error",
            min(each.since for each in stale),
            tuple(in_order(place for each in stale for place in each.places)),
            f"gradient reaches {listed([each.parameter for each in stale])}, but no optimizer holds "
            f"{'it' if len(stale) == 1 else 'them'}; an optimizer holds {counted(old, 'parameter')} without gradient "
            f"that no model has any more (seen at {LOOKS} updates or more)",
            "create the optimizer after the model has all its parameters, again if you replace the model, or "
            "add_param_group()",
        )


def parameter_without_gradient(history: History) -> Iterator[Finding]:
    """Find parameters of an optimizer that require gradient, but that none has ever reached.

    If the optimizer holds others too, this may be an unused layer, so it is only a note.
    """
    stale = any(each.instead_of for each in history.unowned) or history.remade
    for each in history.trained():
        silent = [one for one in each.seen.silent.values() if one.name or not stale]
        if not silent:
            continue
        everything, most = each.seen.all_silent, 2 * len(silent) > each.seen.asking
        what = "all of its parameters" if everything else f"{len(silent)} of its {each.parameters} parameters"
        yield Finding(
            "parameter-without-gradient",
            "error" if everything else "warning" if most else "note",
            1,
            tuple(each.places_of("S")),
            f"{each.name}: no gradient reached {listed(silent)} in any of {each.updates} updates ({what})",
            "pass it the parameters that the loss depends on, and look for detach(), .data, .item() or no_grad() "
            "before the loss"
            if everything
            else "look for detach(), .data, .item() or no_grad() before the loss, and for reentrant checkpoints whose "
            "inputs require no gradient; requires_grad_(False) for layers that should stay fixed"
            if most
            else f"{NOTHING_MEANT}; otherwise call the layer in forward(), or look for detach(), .data, .item() or "
            "no_grad() before the loss",
        )


def parameter_in_two_optimizers(history: History) -> Iterator[Finding]:
    """Find parameters that have their own optimizer, but that the optimizer of the whole network also moves."""
    for each in history.overlaps:
        small, large = each.small, each.large
        it, has = ("it", "it has") if each.number == 1 else ("them", "they have")
        own, whole = (f"{one.name} with {counted(one.parameters, 'parameter')}" for one in (small, large))
        yield Finding(
            "parameter-in-two-optimizers",
            "warning",
            each.since,
            tuple(in_order([*small.places_of("S"), *large.places_of("S")])),
            f"{listed(each.parameters, each.number)}: {has} an optimizer ({own}), but {whole} also moves {it} "
            f"(seen at {LOOKS} updates or more of each)",
            "leave them out of the larger optimizer, or requires_grad_(False) while it trains the others",
        )


def frozen_parameter_moves(history: History) -> Iterator[Finding]:
    """Find parameters that were frozen after some training, but that the optimizer still moves."""
    for each in history.trained():
        moved = [one for one in each.seen.moved.values() if one.times >= LEAST]
        if not moved:
            continue
        zeros, times = all(one.zeros for one in moved), min(one.times for one in moved)
        why = "holds zeros, so momentum and weight decay continue" if zeros else "holds an old gradient"
        yield Finding(
            "frozen-parameter-moves",
            "error",
            min(one.since for one in moved),
            tuple(each.places_of("S")),
            f"{each.name} still moves {listed([one.parameter for one in moved])}, although requires_grad is False: "
            f".grad {why} (at {times} measured updates)",
            "p.grad = None when you freeze p, and zero_grad() with set_to_none=True; or remove p from the optimizer",
        )


def gradient_not_finite(history: History) -> Iterator[Finding]:
    """Find steps that used inf or nan, which made the weights inf or nan too."""
    for each in history.trained():
        seen = each.seen.not_finite
        if seen is None or (seen.times < LEAST and not seen.at_end):
            continue
        times = [f"at {counted(seen.times, 'update')}"] if seen.times else []
        shown = " and ".join([*times, "at the end"] if seen.at_end else times)
        sure = seen.since == seen.finite_at + 1
        which = (
            "in all its parameters" if seen.count == each.parameters else f"in {listed(seen.parameters, seen.count)}"
        )
        which = "" if not sure and seen.count == each.parameters else which
        earlier = f"between updates {seen.finite_at + 1} and {seen.since}"
        since = f"at update {seen.since}" if sure else earlier
        yield Finding(
            "gradient-not-finite",
            "error",
            seen.since,
            tuple(each.places_of("BLS")),
            f"{each.name}: the gradient first became inf or nan {since}{which and ', '}{which}; the weights are not "
            f"finite either ({shown})",
            "a lower lr, clip_grad_norm_(), or a formula with a finite gradient, such as sqrt(x + eps); "
            + ("torch.autograd.detect_anomaly() names the operation" if sure else "--sample 1 finds the update"),
        )
