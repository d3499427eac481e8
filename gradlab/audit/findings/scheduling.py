"""When the scheduler of the learning rate takes its steps."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradlab.audit.findings.evidence import LEAST, count
from gradlab.audit.findings.finding import Finding
from gradlab.audit.history.trace import last_try

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.history.history import History

EACH = re.compile(r"s?(?:Bs)+Bs?")


def at_each(trace: str) -> bool:
    """Say whether a scheduler takes a step at each of several backward passes before an update.

    >>> at_each("zBsBsB"), at_each("szBBB"), at_each("zBs")
    (True, False, False)
    """
    told = "".join(letter for letter in last_try(trace) if letter in "BLs")
    return EACH.fullmatch(told) is not None


def scheduler_at_every_micro_batch(history: History) -> Iterator[Finding]:
    """Find a scheduler that counts micro-batches instead of updates."""
    for each in history.trained():
        found, moved = count(each, at_each), count(each, lambda trace: "s" in trace)
        if found.updates < LEAST or 10 * found.updates < 9 * moved.updates:
            continue
        yield Finding(
            "scheduler-at-every-micro-batch",
            "warning",
            found.first,
            tuple(each.places_of("s")),
            f"{each.kind}: the scheduler takes a step at each backward pass, several times for each update "
            f"(at {found.updates} of {moved.updates} updates for which it does)",
            "scheduler.step() right after optimizer.step(), once a window",
        )
