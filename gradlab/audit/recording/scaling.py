"""Loss scaling: whether the losses of a window went through a GradScaler, and the factor that it divides by."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradlab.audit.history.trace import gathered_in
from gradlab.audit.recording.loss import read

if TYPE_CHECKING:
    from torch import Tensor

    from gradlab.audit.history.history import OptimizerHistory
    from gradlab.audit.recording.window import Window

SCALED = "gradlab.scaled"  # in the metadata of nodes that GradScaler.scale() has made
LEAST_SCALE = 16.0  # below, a missing scale does little


def mark_scaled(result: Any) -> None:
    """Mark what GradScaler.scale() returned: a tensor, or a list or tuple of these."""
    for each in result if isinstance(result, list | tuple) else [result]:
        if isinstance(each, list | tuple):
            mark_scaled(each)
        elif getattr(each, "grad_fn", None) is not None:
            each.grad_fn.metadata[SCALED] = True


def factor_of_unscaled(roots: list[Tensor], *, given: bool) -> float | None:
    """Return the constant factor of losses without a marked node; None if unknown, or if a gradient was `given`."""
    if given or not roots:
        return None
    largest = max(abs(read(root).factor) for root in roots)
    return largest or None


def add_scaling(history: OptimizerHistory, window: Window) -> None:
    """Count a measured window that GradScaler unscaled by whether its losses were scaled, or multiplied by hand."""
    scale = window.scale
    if scale is None or scale < LEAST_SCALE:
        return
    passes, own = window.passes, gathered_in(window.letters)
    if not own or len(passes) < own:
        return
    factors = [each.unscaled_factor for each in passes[-own:]]
    if all(each is not None and each <= math.sqrt(scale) for each in factors):
        history.unscaled_losses.append(history.updates)
    else:
        history.scaled_losses += 1
