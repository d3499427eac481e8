"""Logged quantities by name: the loss and the geometry of rows, and the values of evaluations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from gradlab.errors import PlotError, nearest, shortened
from gradlab.rows import Geometry, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradlab.rows import Evaluation
    from gradlab.store import RunRecord

LOSS = "loss"


class LoggedRun(NamedTuple):
    """A run with all that it logged."""

    record: RunRecord
    rows: Sequence[Row]
    evaluations: Sequence[Evaluation] = ()

    @property
    def quantities(self) -> list[str]:
        """The names of the logged quantities."""
        geometry = Geometry._fields if any(row.geometry for row in self.rows) else ()
        values = dict.fromkeys(name for each in self.evaluations for name in each.values)
        return [*([LOSS] if self.rows else []), *geometry, *values]

    def values_of(self, quantity: str) -> Sequence[Row]:
        """Return a row for each value of the quantity, with the value in place of the loss; none if not logged.

        A cosine with a gradient of zero is left out. An evaluation belongs to the epoch of the step before it.
        """
        if quantity == LOSS:
            return self.rows
        if quantity in Geometry._fields:
            return [
                Row(row.step, row.update, row.epoch, getattr(row.geometry, quantity))
                for row in self.rows
                if row.geometry and not (quantity == "cosine" and _has_no_angle(row.geometry))
            ]
        last_epochs = {row.step + 1: row.epoch for row in self.rows} if self.evaluations else {}
        return [
            Row(each.step, each.update, last_epochs.get(each.step, max(0, each.epoch - 1)), each.values[quantity])
            for each in self.evaluations
            if quantity in each.values
        ]


def _has_no_angle(geometry: Geometry) -> bool:
    """Return whether one of the gradients is zero, rather than not finite."""
    return math.isnan(geometry.cosine) and all(map(math.isfinite, geometry[:2]))


def choose_quantity(runs: Sequence[LoggedRun], name: str) -> str:
    """Return the logged quantity of this name; `-` and `_` are alike.

    Raises:
        PlotError: no run logged it, but they logged others.
    """
    quantity = name.strip().replace("-", "_")
    known = list(dict.fromkeys(each for run in runs for each in run.quantities))
    if known and quantity not in known:
        near = nearest(quantity, known)
        guess = f"; did you mean '{near}'?" if near else "."
        raise PlotError(f"these runs did not log '{shortened(name)}'{guess} Logged: {', '.join(known)}")
    return quantity


def runs_without(runs: Sequence[LoggedRun], quantity: str) -> list[str]:
    """Return the names of the runs that have rows, but did not log the quantity."""
    return [f"{run.record.mode} seed {run.record.seed}" for run in runs if run.rows and quantity not in run.quantities]
