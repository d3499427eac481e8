"""Closed-form curves, computed from numbers that the runs recorded during training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from gradlab import modes
from gradlab.analysis import curves, theory
from gradlab.analysis.quadratic import why_no_theory
from gradlab.analysis.quantities import LOSS
from gradlab.errors import ModeError, PlotError
from gradlab.plotting.lines import lines_of
from gradlab.rows import Geometry, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradlab.plotting.lines import Line
    from gradlab.store import RunRecord

NOT_RECORDED = "an older gradlab trained it and did not record the numbers for theory"
PREDICTED = (LOSS, *Geometry._fields)
ADVICE = "Theory needs full batches, squared error and plain SGD; try gradlab run straight_line_mse"


class _Prediction(NamedTuple):
    """The numbers of a run's closed form, or the reason why it has none."""

    reason: str = ""
    lr: float = 0.0
    keep: float = 0.0
    curvatures: Sequence[float] = ()
    amplitudes: Sequence[float] = ()
    floor: float = 0.0

    def rows(self, steps: int, quantity: str) -> list[Row]:
        """Return the rows of exact training, with the quantity in place of the loss.

        There is one step per epoch, which counts as an update for any `every`. Undefined cosines are left out.
        """
        run = self.lr, self.curvatures, self.keep
        if quantity == LOSS:
            values = theory.loss_trajectory(*run, steps - 1, self.amplitudes, self.floor)
        else:
            values = [getattr(each, quantity) for each in theory.geometry_trajectory(*run, steps, self.amplitudes)]
        rows = [Row(step, step, step, value) for step, value in enumerate(values)]
        return [row for row in rows if not math.isnan(row.loss)] if quantity == "cosine" else rows


def prediction(line: Line, axis: curves.Axis, quantity: str = LOSS) -> curves.Band | None:
    """Return the values of the quantity that theory predicts for the runs of a curve, or None without theory."""
    predictions = [_predict(record, rows) for record, rows in line.runs]
    if any(each.reason for each in predictions):
        return None
    runs = zip(predictions, line.runs, strict=True)
    return curves.band([curves.curve(each.rows(rows[-1].step + 1, quantity), axis) for each, (_, rows) in runs])


def without_theory(runs: Sequence[tuple[RunRecord, Sequence[Row]]], quantity: str = LOSS) -> list[str]:
    """Return one line for each reason why curves of these runs have no theory.

    Raises:
        PlotError: no curve has theory.
    """
    if quantity not in PREDICTED:
        raise PlotError(f"No theory to draw: theory does not predict {quantity}, only {', '.join(PREDICTED)}")
    lines = lines_of([(record, rows) for record, rows in runs if rows], "step")
    names: dict[str, list[str]] = {}
    for line in lines:
        reasons = (_predict(record, rows).reason for record, rows in line.runs)
        if reason := next(filter(None, reasons), ""):
            names.setdefault(reason, []).append(line.name.replace("\N{NO-BREAK SPACE}", " "))
    if lines and sum(map(len, names.values())) == len(lines):
        advice = "Retrain with `gradlab run --fresh`." if NOT_RECORDED in names else ADVICE
        raise PlotError(f"No theory to draw: {'; '.join(names)}\n{advice}")
    return [f"No theory for {'; '.join(those)}: {reason}" for reason, those in names.items()]


def _predict(record: RunRecord, rows: Sequence[Row]) -> _Prediction:
    if reason := why_no_theory(record.settings):
        return _Prediction(reason)
    try:
        mode = modes.parse(record.mode)
    except ModeError:  # a user's mode whose file is gone
        mode = None
    if mode is None or mode.own:
        return _Prediction(f"{record.mode} does not follow the rule of keep and every")
    if rows[-1].step > rows[-1].epoch:
        return _Prediction("an epoch has several batches")
    if record.quadratic is None:
        return _Prediction(NOT_RECORDED)
    if not (known := record.quadratic):
        return _Prediction("the loss is not a quadratic function of the weights with one batch per epoch")
    moving = [pair for pair in zip(known["curvatures"], known["amplitudes"], strict=True) if pair[1]]
    curvatures, amplitudes = [curvature for curvature, _ in moving], [amplitude for _, amplitude in moving]
    return _Prediction("", record.settings["optimizer"]["lr"], mode.keep, curvatures, amplitudes, known["floor"])
