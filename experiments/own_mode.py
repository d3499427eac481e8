"""Your own mode: clear `.grad` only at every fifth update, which no combination of keep and every can express.

gradlab run own_mode
gradlab run diverging_loss -m zero_grad -m experiments/own_mode.py:clear_now_and_then
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def clear_now_and_then(parameters: list[nn.Parameter], update: int) -> None:
    """Clear `.grad` after updates 4, 9, 14, …; leave it unchanged after all others."""
    if update % 5 == 4:
        for parameter in parameters:
            parameter.grad = None
