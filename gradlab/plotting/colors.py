"""What the colour of a phase diagram shows: one column of the results of its sweeps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from gradlab.errors import PlotError, unknown
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradlab.store import Results

DEFAULT_COLOR, FALLBACK = "training_set_loss", "last_loss"
_LOSSES = ("last_loss", "best_loss", "first_loss")


class Color(NamedTuple):
    """A chosen column, and a notice about the choice or ""."""

    column: str
    notice: str = ""


def color_of(sweeps: Sequence[Results], wanted: str | None = None) -> Color:
    """Return the column that colours these sweeps.

    Args:
        sweeps: the results of one or several sweeps.
        wanted: the name of a column; a NAME with last_NAME and best_NAME means the last. Default: training_set_loss
            if every finished run has it, else last_loss.

    Raises:
        PlotError: the name is unknown, a sweep does not have it, or it is NaN in all runs that did not diverge.
    """
    column = DEFAULT_COLOR if wanted is None else _column(sweeps, wanted.strip().replace("-", "_"))
    finished = lacking = 0
    for results in sweeps:
        for block in results.blocks:
            values = zip(block.status, block.verdict, block.values(column), strict=True)
            lacking += sum(status == "done" and not is_drawn(value, verdict) for status, verdict, value in values)
            finished += block.status.count("done")
    if not lacking:
        return Color(column)
    who = "the results have" if lacking == finished else f"{lacking:,} of {counted(finished, 'run')} have"
    if wanted is None:
        return Color(
            FALLBACK, f"Coloured by {FALLBACK}, because {who} no {DEFAULT_COLOR}. `gradlab sweep --fresh` adds it."
        )
    if lacking == finished:
        raise PlotError(f"Nothing to draw: {column} is nan or missing in {counted(finished, 'run')}. Choose another.")
    return Color(column, f"{lacking:,} of {counted(finished, 'run')} have no {column} and are not drawn.")


def is_drawn(value: float | None, verdict: str | None) -> bool:
    """Return whether a value has a place in a figure: a number, or NaN of a run that diverged."""
    return value is not None and (verdict == "diverges" or not math.isnan(value))


def _column(sweeps: Sequence[Results], name: str) -> str:
    """Return the column with this name, or the last_ column of this name."""
    columns = [[*results.measured, *_LOSSES] for results in sweeps]
    known = [each for each in columns[0] if all(each in others for others in columns)]
    for each in (name, f"last_{name}"):
        if each in known:
            return each
    raise PlotError(unknown("color", name, known))


def words_of(column: str) -> str:
    """Return the name of a column as words in a figure."""
    return column.replace("_", " ")
