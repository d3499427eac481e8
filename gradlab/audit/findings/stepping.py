"""Rules on steps: several along one gradient, and optimizers that begin without their state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import LEAST, Finding, count, counted_measured, measured_of
from gradlab.audit.history.keep import ALIKE, passes_of
from gradlab.audit.history.trace import BACKWARDS
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.history.history import History


def is_without_pass(trace: str) -> bool:
    """Say whether a step with a gradient came without a backward pass since the last one.

    >>> is_without_pass(""), is_without_pass("eb"), is_without_pass("zB"), is_without_pass("z0")
    (True, True, False, False)
    """
    return not set(trace) & {*BACKWARDS, "0", "k"}


def stepped_twice(history: History) -> Iterator[Finding]:
    """Find steps that use the gradient of the last step again."""
    for each in history.trained():
        found, seen = count(each, is_without_pass), measured_of(each, is_without_pass)
        unclipped = measured_of(each, lambda trace: is_without_pass(trace) and "c" not in trace)
        if len(seen) < LEAST or not all(one.again for one in seen) or not passes_of(each):
            continue
        if any(one.again < 1 - ALIKE for one in unclipped):  # written by hand
            continue
        often = 3 * found.updates >= each.updates
        yield Finding(
            "stepped-twice",
            "error" if often else "warning",
            found.first,
            tuple(each.places_of("S")),
            f"{each.name}: {found.updates} of {each.updates} steps follow no backward pass and use the gradient of "
            f"the step before again; only {passes_of(each)} passes came ({counted_measured(seen, seen)})",
            "one optimizer.step() for each window; a trainer, callback or wrapper may already call it",
        )


def state_thrown_away(history: History) -> Iterator[Finding]:
    """Find optimizers that are created again with the same parameters, so that their state begins from zero."""
    for each in history.trained():
        seen = each.seen.restarts
        if not seen.holds_state or seen.empty < LEAST or seen.filled:
            continue
        every = each.updates / each.created
        yield Finding(
            "state-thrown-away",
            "warning",
            seen.since,
            tuple(each.places_of("S")),
            f"{each.name} was created {each.created} times for the same parameters, about every "
            f"{counted(round(every), 'update')}, and each time the state of the last one was lost (seen "
            f"{counted(seen.empty, 'time')})",
            "one optimizer for the whole training; change the learning rate in optimizer.param_groups",
        )
