"""Logged quantities by name: the loss of rows, and the values of evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradlab.errors import PlotError, nearest, shortened
from gradlab.rows import Row

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
        values = dict.fromkeys(name for each in self.evaluations for name in each.values)
        return [*([LOSS] if self.rows else []), *values]

    def values_of(self, quantity: str) -> Sequence[Row]:
        """Return a row for each value of the quantity, with the value in place of the loss; none if not logged.

        An evaluation belongs to the epoch of the step before it.
        """
        if quantity == LOSS:
            return self.rows
        last_epochs = {row.step + 1: row.epoch for row in self.rows} if self.evaluations else {}
        return [
            Row(each.step, each.update, last_epochs.get(each.step, max(0, each.epoch - 1)), each.values[quantity])
            for each in self.evaluations
            if quantity in each.values
        ]


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
