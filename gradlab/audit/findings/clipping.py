"""Rules on clipping: at every micro-batch, before the backward pass, before unscaling, of nothing.

A bound that never shortens a gradient only logs its norm, so the place of the call does not matter.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import LEAST, Finding, count, nearly_always
from gradlab.audit.history.keep import emptied_between, losses_apart
from gradlab.audit.history.trace import last_try, only

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.history.history import History, OptimizerHistory

EACH = re.compile(r"(?:Bc){2,}")
EARLY = re.compile(r"c+B+")
EARLY_IN_CLOSURE = re.compile(r"(?:[zn]+c+[zn]*L|c+[zn]+L)+")


def is_clipped_every_pass(trace: str) -> bool:
    """Say whether gradients are clipped after every backward pass of a window that has several.

    >>> is_clipped_every_pass("zBcBc"), is_clipped_every_pass("zBBc"), is_clipped_every_pass("BczBcz")
    (True, False, False)
    """
    return EACH.fullmatch(only("BLznc", last_try(trace)).strip("zn")) is not None


def is_clipped_too_early(trace: str) -> bool:
    """Say whether gradients are clipped before the backward pass and not after it.

    >>> [is_clipped_too_early(trace) for trace in ("czB", "zcB", "zBc", "cBc", "czL", "zLcLc")]
    [True, True, False, False, True, False]
    """
    part = last_try(trace)
    if "L" in part:
        return EARLY_IN_CLOSURE.fullmatch(only("BLznc", part)) is not None
    return EARLY.fullmatch(only("Bc", part)) is not None


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


def only_logs(history: OptimizerHistory) -> bool:
    """Say whether clipping has never shortened a gradient, so that it only logs the norm."""
    return history.clips_checked >= LEAST and not history.clips_shortened


def _when_to_clip(history: OptimizerHistory) -> str:
    """Return where to clip outside a closure: right before the step, but after a GradScaler has unscaled."""
    unscaled = count(history, lambda trace: "u" in trace).updates
    return "between scaler.unscale_() and scaler.step()" if unscaled else "right before optimizer.step()"


def clipped_at_every_micro_batch(history: History) -> Iterator[Finding]:
    """Find clipping of the accumulated gradient at every micro-batch."""
    for each in history.trained():
        found = nearly_always(each, is_clipped_every_pass, of=_clips)
        one_by_one = losses_apart(each) or emptied_between(each)  # or combined by hand
        if found and not one_by_one and not only_logs(each):
            yield Finding(
                "clipped-at-every-micro-batch",
                "warning",
                found.first,
                tuple(each.places_of("c")),
                f"{each.name}: the accumulated gradient is clipped after every backward pass, so the first "
                f"micro-batches count less than the last ({found.shown} that clip)",
                f"clip once per window, {_when_to_clip(each)}",
            )


def clipped_before_backward(history: History) -> Iterator[Finding]:
    """Find clipping before the backward pass or after the step."""
    for each in history.trained():
        found = nearly_always(each, is_clipped_too_early, of=_clips)
        if found and not only_logs(each):
            yield Finding(
                "clipped-before-backward",
                "error",
                found.first,
                tuple(each.places_of("c")),
                f"{each.name}: clipping comes before the backward pass or after the step, so no step uses a clipped "
                f"gradient ({found.shown} that clip)",
                "clip in the closure, after loss.backward()"
                if count(each, lambda trace: "L" in trace).updates
                else f"clip after loss.backward(), {_when_to_clip(each)}",
            )


def clipped_before_unscale(history: History) -> Iterator[Finding]:
    """Find clipping of gradients that still contain GradScaler's factor."""
    for each in history.trained():
        found = nearly_always(each, is_clipped_before_unscale, of=lambda trace: "c" in trace and "u" in trace)
        if found and not only_logs(each):
            yield Finding(
                "clipped-before-unscale",
                "error",
                found.first,
                tuple(each.places_of("c")),
                f"{each.name}: gradients are clipped before GradScaler unscales them, at thousands of times their "
                f"size ({found.shown} that clip and unscale)",
                "scaler.unscale_(optimizer) before clipping",
            )


def clips_nothing(history: History) -> Iterator[Finding]:
    """Find lines that clip parameters without gradient, while an optimizer steps along an unclipped gradient."""
    unclipped = [each for each in history.trained() if 10 * count(each, _clips).updates <= each.updates]
    for place, found in history.clipped_nothing.items() if unclipped else ():
        if found.times < LEAST:
            continue
        what = "gets no parameters, such as from a used-up generator" if found.empty else "gets none with a gradient"
        yield Finding(
            "clips-nothing",
            "warning",
            found.since,
            (place,),
            f"the clipping {what}, so it clips nothing (seen {found.times} times)",
            "clip model.parameters() of the model that the optimizer trains, or a list of them",
        )
