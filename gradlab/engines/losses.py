"""What a task's loss returns, checked: a scalar tensor, or a pair (sum, count)."""

from __future__ import annotations

import math
from typing import Any

from gradlab.errors import TaskError, kind_of, shortened


def mean_and_items(loss: Any, step: int = 0) -> tuple[Any, float | None]:
    """Return the mean loss; and how many items it is the mean of, where the task's loss is a pair (sum, count).

    Raises:
        TaskError: it is a tuple, but not such a pair.
    """
    if not isinstance(loss, tuple):
        return loss, None
    if len(loss) != 2:
        raise TaskError(f"the task's loss returned {len(loss)} values; return a scalar tensor or a pair (sum, count)")
    total, count = loss
    items = count.item() if hasattr(count, "item") and getattr(count, "ndim", 1) == 0 else count
    if isinstance(items, bool) or not isinstance(items, int | float) or not 0 < items < math.inf:
        raise TaskError(
            f"the task's loss returned (sum, count) with a count of {shortened(items)} in step {step}; "
            "it must be a number greater than 0: leave out a batch that has nothing to count"
        )
    if (found := _not_scalar(total)) is not None:
        raise TaskError(
            f"the task's loss returned (sum, count) with {found} for the sum; "
            "it must be a scalar tensor: the sum of the losses"
        )
    return total / items, items


def check_scalar(loss: Any) -> None:
    """Raise TaskError for a loss that is not a scalar tensor with a graph behind it."""
    if (found := _not_scalar(loss)) is not None:
        would = "take its mean" if hasattr(loss, "shape") else "return that or a tuple (sum, count)"
        raise TaskError(f"the task's loss must be a scalar tensor, got {found}; {would}")
    if not loss.requires_grad:
        raise TaskError(
            "the task's loss has no graph behind it, so backward() finds no gradient; compute it from model(…)"
        )


def _not_scalar(loss: object) -> str | None:
    """Describe a loss that is not a tensor of one element."""
    import torch

    if not isinstance(loss, torch.Tensor):
        return kind_of(loss)
    return None if loss.numel() == 1 else f"a tensor of shape {tuple(loss.shape)}"
