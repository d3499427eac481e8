"""Row and Evaluation: the log entries of a training step and of an evaluation between two steps."""

from typing import NamedTuple

HUGE = 1e100  # numbers below it can be squared, multiplied and summed without overflow


class Geometry(NamedTuple):
    """The gradients of one update and the change of the weights, over all trained parameters.

    Attributes:
        fresh_norm: norm of the gradient of this window alone, before clipping.
        gradient_norm: norm of `.grad`, which the optimizer uses: with what the mode kept, after clipping.
        cosine: cosine of the angle between both, from -1 to 1; NaN if one of them is zero.
        update_norm: norm of the change of the weights.
    """

    fresh_norm: float
    gradient_norm: float
    cosine: float
    update_norm: float


class Row(NamedTuple):
    """The log entry of one training step.

    Attributes:
        step: number of earlier backward passes.
        update: number of earlier optimizer steps; `loss` is the loss after `update` updates.
        epoch: number of earlier passes over the batches.
        loss: mean loss of this batch, before any division for accumulation.
        items: number of items (tokens, rows) in that mean; 1 if the task does not count them.
        geometry: of the update after this step, if there is one and the experiment logs it.
    """

    step: int
    update: int
    epoch: int
    loss: float
    items: float = 1
    geometry: Geometry | None = None

    def cells(self, *, geometry: bool = False) -> tuple[float | None, ...]:
        """Return the values of `columns`; those of a geometry that the row lacks are None."""
        measured = (self.geometry or (None,) * len(Geometry._fields)) if geometry else ()
        return *self[:5], *measured


def columns(*, geometry: bool = False) -> list[str]:
    """Return the columns of a table of rows, with those of their geometry or without."""
    return [*Row._fields[:5], *(Geometry._fields if geometry else ())]


class Evaluation(NamedTuple):
    """The log entry of one evaluation of the model, between two steps.

    Attributes:
        step: number of earlier backward passes.
        update: number of earlier optimizer steps.
        epoch: number of completed passes over the batches.
        values: what was measured, by name: `validation_loss`, or `training_set_loss` without validation batches, then
            the task's metrics.
    """

    step: int
    update: int
    epoch: int
    values: dict[str, float]


def lower_is_better(name: str) -> bool:
    """Return whether lower values are better: those of losses and errors, by the end of the name."""
    return name.endswith(("loss", "error"))


VALIDATION_LOSS, TRAINING_SET_LOSS = "validation_loss", "training_set_loss"
_SUMMARY = ("steps", "updates", "first_loss", "last_loss", "best_loss")
# Names of columns, keys and expectations, which a metric cannot have
TAKEN_NAMES = frozenset(
    {"experiment", "mode", "seed", *Row._fields, VALIDATION_LOSS, TRAINING_SET_LOSS, *Geometry._fields, *_SUMMARY}
    | {f"{name}_{side}" for name in _SUMMARY for side in ("below", "above")}
    | {"verdict", "status", "seconds", "cached", "folder", "error", "epoch_losses", "values", "evaluation"}
)
