"""Rules on steps of learning-rate schedulers."""

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
    """Say whether a scheduler steps at every backward pass of an update that has several.

    >>> is_scheduled_every_pass("zBsBsB"), is_scheduled_every_pass("szBBB"), is_scheduled_every_pass("zBs")
    (True, False, False)
    """
    return EACH.fullmatch(only("BLs", last_try(trace))) is not None


def scheduler_at_every_micro_batch(history: History) -> Iterator[Finding]:
    """Find schedulers that count micro-batches instead of updates."""
    for each in history.trained():
        found = nearly_always(each, is_scheduled_every_pass, of=lambda trace: "s" in trace)
        if found:
            yield Finding(
                "scheduler-at-every-micro-batch",
                "warning",
                found.first,
                tuple(each.places_of("s")),
                f"{each.name}: the scheduler steps at every backward pass, several times per update "
                f"({found.shown} for which it steps)",
                "scheduler.step() right after optimizer.step(), once per window",
            )
