"""Row and Evaluation: what is logged of a training step, and between two steps."""

from typing import NamedTuple

HUGE = 1e100  # numbers below it can be squared, multiplied and summed without overflow


class Row(NamedTuple):
    """The log entry of one training step.

    Attributes:
        step: number of earlier backward passes.
        update: number of earlier optimizer steps; `loss` is the loss after `update` updates.
        epoch: number of earlier passes over the batches.
        loss: mean loss of this batch, before any division for accumulation.
        items: number of items (tokens, rows) in that mean; 1 if the task does not count them.
    """

    step: int
    update: int
    epoch: int
    loss: float
    items: float = 1


class Evaluation(NamedTuple):
    """The log entry of one evaluation: values over all batches, computed between two steps.

    Attributes:
        step: number of earlier backward passes.
        update: number of earlier optimizer steps.
        epoch: number of earlier passes over the batches.
        values: the values by name.
    """

    step: int
    update: int
    epoch: int
    values: dict[str, float]
