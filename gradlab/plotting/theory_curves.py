"""What theory predicts of a curve: closed forms, of the numbers that its runs recorded when they were trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab import modes
from gradlab.analysis import curves, theory
from gradlab.analysis.quadratic import why_no_theory
from gradlab.errors import ModeError, PlotError
from gradlab.plotting.lines import lines_of
from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradlab.plotting.lines import Line
    from gradlab.store import RunRecord

NOT_RECORDED = "trained before runs recorded what theory needs"
ADVICE = "there is for full batches, squared error and plain SGD: gradlab run straight_line_mse"


def prediction(line: Line, axis: curves.Axis) -> curves.Band | None:
    """Return the losses that theory predicts for the runs of a curve, their median as the curve's; None without."""
    if why_not(line):
        return None
    return curves.band([curves.curve(_rows(record, len(rows)), axis) for record, rows in line.runs])


def without_theory(runs: Sequence[tuple[RunRecord, Sequence[Row]]]) -> list[str]:
    """Say of the curves of these runs that have no theory why, a line for each reason.

    Raises:
        PlotError: none has it.
    """
    lines = lines_of([(record, rows) for record, rows in runs if rows], "step")
    names: dict[str, list[str]] = {}
    for line in lines:
        if reason := why_not(line):
            names.setdefault(reason, []).append(line.name.replace("\N{NO-BREAK SPACE}", " "))
    if lines and sum(map(len, names.values())) == len(lines):
        mend = "`gradlab run` with --fresh trains them again" if NOT_RECORDED in names else ADVICE
        raise PlotError(f"there is no theory to draw: {'; '.join(names)}\n{mend}")
    return [f"no theory for {'; '.join(those)}: {reason}" for reason, those in names.items()]


def why_not(line: Line) -> str:
    """Say why there is no theory of a curve; "" where there is."""
    return next(filter(None, (_why_not(record, rows) for record, rows in line.runs)), "")


def _why_not(record: RunRecord, rows: Sequence[Row]) -> str:
    if reason := why_no_theory(record.settings):
        return reason
    if not _follows_rule(record.mode):
        return f"{record.mode} does not follow the rule of keep and every"
    if rows[-1].step > rows[-1].epoch:
        return "an epoch has several batches"
    if record.quadratic is None:
        return NOT_RECORDED
    return "" if record.quadratic else "the loss is not a quadratic of the weights, seen in one batch an epoch"


def _follows_rule(mode: str) -> bool:
    try:
        return modes.parse(mode).own is None
    except ModeError:  # a user's own whose file is gone
        return False


def _rows(record: RunRecord, steps: int) -> list[Row]:
    """Return the rows that a training without rounding logs: an epoch is a step and an update, with any `every`."""
    known = record.quadratic or {}
    moving = [pair for pair in zip(known["curvatures"], known["amplitudes"], strict=True) if pair[1]]
    losses = theory.loss_trajectory(
        record.settings["optimizer"]["lr"],
        [curvature for curvature, _ in moving],
        modes.parse(record.mode).keep,
        steps - 1,
        [amplitude for _, amplitude in moving],
        known["floor"],
    )
    return [Row(step, step, step, loss) for step, loss in enumerate(losses)]
