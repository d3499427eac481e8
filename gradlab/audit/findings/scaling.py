"""Rules on loss scaling."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import LEAST, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.history.history import History


def unscaled_without_scaling(history: History) -> Iterator[Finding]:
    """Find gradients that a GradScaler divides, although no loss was multiplied."""
    for each in history.trained():
        shown = each.unscaled_losses
        if len(shown) < LEAST or each.scaled_losses:
            continue
        scale = median(one.scale for one in each.measured if one.scale > 1)
        yield Finding(
            "unscaled-without-scaling",
            "error",
            shown[0],
            tuple(each.places_of("BL")),
            f"{each.name}: backward() gets a loss that no GradScaler has scaled, but the scaler still divides its "
            f"gradient by {scale:,g} (at {len(shown)} of {len(shown)} measured updates)",
            "scaler.scale(loss).backward(), with the tensor that scale() returns",
        )
