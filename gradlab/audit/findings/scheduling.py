"""Rules on learning-rate schedulers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import Finding, nearly_always
from gradlab.audit.history.history import in_order
from gradlab.audit.history.trace import last_try, only
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.history.history import History

LEAST_UPDATES = 8  # before a scheduler counts as too long
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


def scheduler_too_long(history: History) -> Iterator[Finding]:
    """Find schedulers that took at most half of the steps that they are made for, in a whole training."""
    for each in () if history.ended_early else history.trained():
        for one in each.seen.schedules if each.updates >= LEAST_UPDATES else ():
            if not 0 < 2 * one.steps <= one.total:
                continue
            rarely = 2 * one.steps <= each.updates
            yield Finding(
                "scheduler-too-long",
                "warning",
                1,
                tuple(in_order([one.place] if one.place else [])),
                f"{each.name}: {one.kind} is made for {counted(one.total, 'step')}, but took {one.steps:,} in "
                f"{each.updates:,} updates",
                "scheduler.step() after each optimizer.step(), or the number of its own steps, such as epochs"
                if rarely
                else "the number of optimizer steps, such as epochs * len(loader) // N with N micro-batches",
            )
