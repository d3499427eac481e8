"""Summaries of optimizers: what was measured, in numbers and words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradlab.audit.findings.stepping import is_without_pass
from gradlab.audit.history.keep import (
    MeasuredKeep,
    backwards_per_update,
    keep_of,
    mode_of,
    passes_of,
    scale_of_kept,
)

if TYPE_CHECKING:
    from gradlab.audit.history.history import OptimizerHistory


class OptimizerSummary(NamedTuple):
    """Measurements of one optimizer of the script."""

    kind: str  # class name
    parameters: int
    updates: int
    backwards_per_update: int | None
    keep: MeasuredKeep | None  # None if not measured
    mode: str | None  # None if no single mode fits
    meaning: str  # the mode in words
    backwards: int | None = None  # all backward passes, if some steps with a gradient came without one
    number: int = 0  # among several optimizers of this class, from 1; 0 if it is the only one
    groups: int = 1
    created: int = 1  # optimizers of this class that held these parameters, one after the other


def summary_of(history: OptimizerHistory) -> OptimizerSummary:
    """Return the measurements of an optimizer, in numbers and words."""
    keep, mode = keep_of(history), mode_of(history)
    passes, meaning = backwards_per_update(history), _meaning(history, keep, mode)
    # The first update may have had its pass before the watch knew the optimizer.
    without = any(is_without_pass(each.trace) and each.first + each.times > 2 for each in history.stretches)
    apart = passes_of(history) if passes and without else None
    numbers = history.number, history.groups, history.created
    return OptimizerSummary(
        history.kind, history.parameters, history.updates, passes, keep, mode, meaning, apart, *numbers
    )


def _meaning(history: OptimizerHistory, keep: MeasuredKeep | None, mode: str | None) -> str:
    if keep is None and all(measured.empty for measured in history.measured):
        return "its steps find no gradient"
    if keep is None:
        within = ": it steps inside backward passes" if history.steps_within_pass else ""
        return f"keep could not be measured{within}"
    if mode is None and keep.steady:
        return "kept between updates, but sometimes cleared"
    if mode is None:
        return "no single mode: keep differs between updates or parameters"
    share, scale = keep.median, scale_of_kept(history)
    if scale > 1:
        return f"not cleared, but unscale_() divides all of .grad by {scale:,g}: {share:.3g} of the gradient is kept"
    if not -0.01 <= share <= 1.01:
        how = "grows with every update" if abs(share) > 1 else "is subtracted from the next one"
        return f"{share:.3g} times the gradient stays in .grad and {how}"
    if share < 0.01:
        _, every, ending = [*mode.split(":"), "", ""][:3] if mode.startswith("accumulate") else ("", "", "")
        summed = "; gradients are summed, because no loss is divided" if ending else ""
        return f"cleared after each window of {every} backward passes{summed}" if every else "cleared at every update"
    if share < 0.99:
        return f"{share:.3g} of the gradient is kept{_as_momentum(history, f'{share:.3g}')}"
    end = " and will not settle" if _as_momentum(history, "1") else ""
    return f"never cleared{_as_momentum(history, '1')}{end}"


def _as_momentum(history: OptimizerHistory, share: str) -> str:
    """Return what momentum the keep equals with plain SGD; nothing for optimizers with their own momentum."""
    own = any(history.settings.get(name) for name in ("momentum", "weight_decay"))
    return f", which equals momentum {share} with this SGD" if history.kind == "SGD" and not own else ""
