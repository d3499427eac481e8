"""Rules on clipping: at every micro-batch, before the backward pass, before unscaling."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import Finding, nearly_always
from gradlab.audit.history.keep import emptied_between, losses_apart
from gradlab.audit.history.trace import last_try, only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.history.history import History

EACH = re.compile(r"(?:Bc){2,}")
EARLY = re.compile(r"c[^Bc]*B[^c]*")


def is_clipped_every_pass(trace: str) -> bool:
    """Say whether gradients are clipped after every backward pass of a window that has several.

    >>> is_clipped_every_pass("zBcBc"), is_clipped_every_pass("zBBc"), is_clipped_every_pass("BczBcz")
    (True, False, False)
    """
    return EACH.fullmatch(only("BLznc", last_try(trace)).strip("zn")) is not None


def is_clipped_too_early(trace: str) -> bool:
    """Say whether gradients are clipped before the backward pass and not after it.

    >>> [is_clipped_too_early(trace) for trace in ("czB", "zcB", "zBc", "cBc")]
    [True, True, False, False]
    """
    part = last_try(trace)
    return EARLY.fullmatch(only("BLc", part)) is not None and "L" not in part


def is_clipped_before_unscale(trace: str) -> bool:
    """Say whether gradients are clipped after the backward pass but before GradScaler unscales them.

    >>> [is_clipped_before_unscale(trace) for trace in ("zBcu", "zBuc", "zBucu", "zBc")]
    [True, False, False, False]
    """
    after = last_try(trace).rpartition("B")[2]
    return (
        "u" in after and "c" in after and after.index("c") < after.index("u") and "c" not in after[after.index("u") :]
    )


def _clips(trace: str) -> bool:
    return "c" in trace


def clipped_at_every_micro_batch(history: History) -> Iterator[Finding]:
    """Find clipping of the accumulated gradient at every micro-batch."""
    for each in history.trained():
        found = nearly_always(each, is_clipped_every_pass, of=_clips)
        one_by_one = losses_apart(each) or emptied_between(each)  # or combined by hand
        if found and not one_by_one:
            yield Finding(
                "clipped-at-every-micro-batch",
                "warning",
                found.first,
                tuple(each.places_of("c")),
                f"{each.kind}: the accumulated gradient is clipped after every backward pass, so the first "
                f"micro-batches count less than the last ({found.shown} that clip)",
                "clip once per window, right before optimizer.step()",
            )


def clipped_before_backward(history: History) -> Iterator[Finding]:
    """Find clipping before the backward pass or after the step."""
    for each in history.trained():
        found = nearly_always(each, is_clipped_too_early, of=_clips)
        if found:
            yield Finding(
                "clipped-before-backward",
                "error",
                found.first,
                tuple(each.places_of("c")),
                f"{each.kind}: clipping comes before the backward pass or after the step, so no step uses a clipped "
                f"gradient ({found.shown} that clip)",
                "clip between loss.backward() and optimizer.step()",
            )


def clipped_before_unscale(history: History) -> Iterator[Finding]:
    """Find clipping of gradients that still contain GradScaler's factor."""
    for each in history.trained():
        found = nearly_always(each, is_clipped_before_unscale, of=lambda trace: "c" in trace and "u" in trace)
        if found:
            yield Finding(
                "clipped-before-unscale",
                "error",
                found.first,
                tuple(each.places_of("c")),
                f"{each.kind}: gradients are clipped before GradScaler unscales them, at thousands of times their "
                f"size ({found.shown} that clip and unscale)",
                "scaler.unscale_(optimizer) before clipping",
            )
