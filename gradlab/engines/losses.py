"""Checks of a task's loss: a scalar tensor, or a pair (sum, count)."""

from __future__ import annotations

import math
from typing import Any

from gradlab.errors import TaskError, kind_of, shortened


def mean_and_items(loss: Any, step: int = 0) -> tuple[Any, float | None]:
    """Return the mean loss and its number of items; None unless the loss is a pair (sum, count).

    Raises:
        TaskError: the loss is a tuple, but not such a pair.
    """
    if not isinstance(loss, tuple):
        return loss, None
    if len(loss) != 2:
        raise TaskError(f"the task's loss returned {len(loss)} values; return a scalar tensor or a pair (sum, count)")
    total, count = loss
    items = count.item() if hasattr(count, "item") and getattr(count, "ndim", 1) == 0 else count
    if isinstance(items, bool) or not isinstance(items, int | float) or not 0 < items < math.inf:
        raise TaskError(
            f"the task's loss returned (sum, count) with count {shortened(items)} in step {step}; "
            "the count must be greater than 0: skip batches without items"
        )
    if (found := _not_scalar(total)) is not None:
        raise TaskError(
            f"the task's loss returned (sum, count) with {found} as the sum; the sum must be a scalar tensor"
        )
    return total / items, items


def check_scalar(loss: Any) -> None:
    """Raise TaskError unless the loss is a scalar tensor with a graph."""
    if (found := _not_scalar(loss)) is not None:
        advice = "take its mean" if hasattr(loss, "shape") else "return a scalar tensor or a tuple (sum, count)"
        raise TaskError(f"the task's loss must be a scalar tensor, got {found}; {advice}")
    if not loss.requires_grad:
        raise TaskError("the task's loss has no graph, so backward() has no gradient; compute the loss from model(…)")


def _not_scalar(loss: object) -> str | None:
    """Describe the loss if it is not a tensor with one element, else return None."""
    import torch

    if not isinstance(loss, torch.Tensor):
        return kind_of(loss)
    return None if loss.numel() == 1 else f"a tensor of shape {tuple(loss.shape)}"
