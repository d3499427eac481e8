"""When the scheduler of the learning rate takes its steps."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import Finding, nearly_always
from gradlab.audit.history.trace import last_try, only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.history.history import History

EACH = re.compile(r"s?(?:Bs)+Bs?")


def is_scheduled_every_pass(trace: str) -> bool:
    """Say whether a scheduler takes a step at each of several backward passes before an update.

    >>> is_scheduled_every_pass("zBsBsB"), is_scheduled_every_pass("szBBB"), is_scheduled_every_pass("zBs")
    (True, False, False)
    """
    return EACH.fullmatch(only("BLs", last_try(trace))) is not None


def scheduler_at_every_micro_batch(history: History) -> Iterator[Finding]:
    """Find a scheduler that counts micro-batches instead of updates."""
    for each in history.trained():
        found = nearly_always(each, is_scheduled_every_pass, of=lambda trace: "s" in trace)
        if found:
            yield Finding(
                "scheduler-at-every-micro-batch",
                "warning",
                found.first,
                tuple(each.places_of("s")),
                f"{each.kind}: the scheduler takes a step at each backward pass, several times for each update "
                f"({found.shown} for which it does)",
                "scheduler.step() right after optimizer.step(), once a window",
            )
