"""Rules: each is a pure function from a history to its findings.

A rule reports only what several updates show clearly: a false alarm is worse than silence. To add a rule, write a
function `(history: History) -> Iterable[Finding]` in a module of this package. Its name is the id of its findings.
List it in `BY_DEFAULT` or `ON_REQUEST`, and add two faulty and two correct scripts to tests/audit/scripts/.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradlab.audit.findings import (
    boundaries,
    clearing,
    clipping,
    dividing,
    modes,
    parameters,
    passes,
    scaling,
    scheduling,
    stepping,
)
from gradlab.audit.findings.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from gradlab.audit.history.history import History

    Rule = Callable[[History], Iterable[Finding]]

__all__ = ["DEFAULT", "RULES", "Finding", "Severity", "find"]

BY_DEFAULT: tuple[Rule, ...] = (
    clearing.never_cleared,
    clearing.cleared_before_step,
    clearing.cleared_once_an_epoch,
    clearing.accumulation_without_effect,
    clearing.partly_kept,
    boundaries.first_window_off_by_one,
    boundaries.last_window_dropped,
    boundaries.last_window_leaks,
    dividing.last_window_divided_by_n,
    dividing.loss_not_divided,
    dividing.divided_twice,
    clipping.clipped_at_every_micro_batch,
    clipping.clipped_before_backward,
    clipping.clipped_before_unscale,
    clipping.clips_nothing,
    scaling.unscaled_without_scaling,
    scheduling.scheduler_at_every_micro_batch,
    stepping.stepped_twice,
    parameters.parameter_without_optimizer,
    parameters.parameter_made_in_forward,
    parameters.stale_parameter,
    parameters.parameter_without_gradient,
    parameters.parameter_in_two_optimizers,
    parameters.frozen_parameter_moves,
    parameters.gradient_not_finite,
    passes.leaking_loss,
    passes.gradient_of_another_pass,
    passes.closure_without_clearing,
    passes.graph_kept,
)
ON_REQUEST: tuple[Rule, ...] = (  # often intentional: only with --select
    scheduling.scheduler_too_long,
    modes.requires_grad_of_module,
    modes.trained_in_eval_mode,
    passes.term_without_graph,
    stepping.state_thrown_away,
)


def _by_id(rules: Iterable[Rule]) -> dict[str, Rule]:
    return {rule.__name__.replace("_", "-"): rule for rule in rules}


RULES: Mapping[str, Rule] = _by_id((*BY_DEFAULT, *ON_REQUEST))  # all, by id
DEFAULT = frozenset(_by_id(BY_DEFAULT))  # the ids of those that need no --select
NUMBER = re.compile(r"(?<=\w) #\d+\b")  # as in "SGD #2"
ORDER = {"error": 0, "warning": 1, "note": 2}


def find(history: History, chosen: Collection[str] = DEFAULT) -> list[Finding]:
    """Return the findings of the chosen rules, errors first, then by their first update.

    Those that differ only in the number of an optimizer become one, without the number.
    """
    if history.threads_at_once:  # events of several threads may be mixed up
        return []
    found = (each for name, rule in RULES.items() if name in chosen for each in rule(history))
    alike: dict[Finding, list[Finding]] = {}
    for each in found:
        alike.setdefault(each._replace(message=NUMBER.sub("", each.message)), []).append(each)
    once = [same[0] if len(same) == 1 else plain for plain, same in alike.items()]
    return sorted(once, key=lambda each: (ORDER[each.severity], each.since_update))
