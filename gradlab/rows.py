"""Row: what is logged of one step. Training yields them, the store keeps them, curves are made of them."""

from typing import NamedTuple

HUGE = 1e100  # sums of squares, and products in a closed form, of numbers below it do not overflow


class Row(NamedTuple):
    """What is logged of one step.

    Attributes:
        step: backward passes before this one.
        update: optimizer steps before this one, so that `loss` is the loss after `update` updates.
        epoch: passes over the batches before this one.
        loss: of this batch, before it is divided for accumulation.
        items: how many this loss is the mean of, where the task tells (tokens, rows); else 1.
    """

    step: int
    update: int
    epoch: int
    loss: float
    items: float = 1
