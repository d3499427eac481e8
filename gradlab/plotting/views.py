"""What a picture of runs shows: its curves, and the ranges of its axes. It needs no matplotlib."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from gradlab import modes
from gradlab.analysis import curves
from gradlab.analysis.quantities import LOSS
from gradlab.analysis.smoothing import NOISE, block_size, in_blocks, smoothed
from gradlab.errors import GradlabError, PlotError, unknown
from gradlab.plotting.lines import Line, coinciding, lines_of
from gradlab.plotting.y_axis import YLimits, y_limits
from gradlab.rows import HUGE
from gradlab.wording import plural

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gradlab.rows import Row
    from gradlab.store import RunRecord

MOST_CHARACTERS = 60  # of the names of curves that coincide


class View(NamedTuple):
    """The curves of a picture, its axes, and what its caption says about the curves."""

    axis: curves.Axis
    lines: list[Line]
    left: float
    right: float
    limits: YLimits
    notes: list[str]


class End(NamedTuple):
    """Where a curve ends in the picture, and whether it leaves it or stops being finite there."""

    x: float
    y: float
    leaves: bool


def view_of(
    runs: Sequence[tuple[RunRecord, Sequence[Row]]],
    *,
    axis: str | None = None,
    y: str = LOSS,
    yscale: str = "auto",
    ylim: tuple[float | None, float | None] = (None, None),
    smooth: int | None = None,
    exact: bool = False,
) -> View:
    """Return what to draw of these runs. A curve of many points is drawn as medians of blocks, unless `exact`.

    Args:
        runs: the record and rows of every run; the rows hold the values of `y` in place of the loss.
        axis: step, update or epoch; None chooses one.
        y: the quantity's name.
        yscale: log, linear or auto.
        ylim: the bottom and the top of the y axis; None for what suits.
        smooth: draw running medians of this many points; 1 draws every point.
        exact: draw every point.

    Raises:
        PlotError: no run has rows, or an argument does not fit them.
    """
    drawn = [(record, rows) for record, rows in runs if rows]
    if not drawn:
        raise PlotError("Nothing to draw: the runs have no rows yet.")
    if smooth is not None and smooth < 1:
        raise PlotError(f"--smooth takes the number of points of a median, at least 1, not {smooth}.")
    chosen = choose_axis(axis, drawn)
    found = lines_of(drawn, chosen)
    notes = _coincidences(coinciding(found))
    lines = found
    if smooth is not None and smooth > 1:
        lines = [line._replace(band=smoothed(line.band, smooth, line.finite), raw=line.band) for line in found]
        notes.append(f"running median of {smooth} {plural(chosen, smooth)}, with the curve itself")
    elif not exact and smooth is None:
        lines = [_in_blocks(line) for line in found]
        notes += _block_notes(lines, chosen)
    limits = y_limits(y, lines, yscale, ylim)
    left = min(line.band.x[0] for line in found)
    cut_off = ylim == (None, None)
    right = max(
        _last_x(line, drawn_line, limits, cut_off=cut_off) for line, drawn_line in zip(found, lines, strict=True)
    )
    return View(chosen, lines, left, max(left, right), limits, notes)


def _last_x(line: Line, shown: Line, limits: YLimits, *, cut_off: bool) -> float:
    """Return where the x axis may end for this curve: at its end, or with `cut_off` where it leaves the picture."""
    end = end_of(shown, limits)
    whole = line.band.x[max(0, line.finite - 1)]
    return end.x if cut_off and end.leaves else whole


def end_of(line: Line, limits: YLimits) -> End:
    """Return where the curve ends: its last point, or the last one before it leaves the picture for good."""
    x, y, n = line.band.x, line.band.median, line.finite
    visible = [nth for nth in range(n) if y[nth] <= limits.top]
    if not visible:
        return End(x[0], limits.top, leaves=True)
    last = visible[-1]
    here = max(y[last], limits.bottom)
    if last == n - 1:
        return End(x[last], here, leaves=n < len(y))
    beyond = min(y[last + 1], HUGE)
    if limits.log:
        share = math.log(limits.top / here) / math.log(beyond / here)
    else:
        share = (limits.top - here) / (beyond - here)
    return End(x[last] + share * (x[last + 1] - x[last]), limits.top, leaves=True)


def choose_axis(axis: str | None, runs: Sequence[tuple[RunRecord, Sequence[Row]]]) -> curves.Axis:
    """Return this axis; for None the natural one, or steps if fewer than two epochs have a finite mean.

    Raises:
        PlotError: the axis is unknown.
    """
    if axis is None:
        natural = {curves.natural_axis(rows) for _, rows in runs}
        few = all(len([mean for mean in curves.epoch_means(rows) if abs(mean) < HUGE]) < 2 for _, rows in runs)
        return "step" if few else natural.pop() if len(natural) == 1 else "epoch"
    for known in ("step", "update", "epoch"):
        if axis == known:
            return known
    raise PlotError(unknown("axis", axis, ["step", "update", "epoch"]))


def choose_modes(known: Sequence[str], words: Collection[str]) -> list[str]:
    """Return those of the known modes that the words name.

    Raises:
        PlotError: a word names none of them.
    """
    chosen = []
    for word in words:
        name = word
        if word not in known:
            with suppress(GradlabError):  # a user's mode, or no mode
                name = modes.parse(word).name
        if name not in known:
            raise PlotError(unknown("mode of these runs", word, known))
        chosen.append(name)
    return [mode for mode in known if mode in chosen] if words else list(known)


def _in_blocks(line: Line) -> Line:
    """Return a long noisy curve as medians of blocks; another one as it is."""
    n = line.finite
    size = block_size(line.band.median[:n])
    if size == 1:
        return line
    return line._replace(band=in_blocks(line.band, n, size, noise=line.seeds == 1), block=size)


def _block_notes(lines: Sequence[Line], axis: curves.Axis) -> list[str]:
    """Return what the caption says about curves in blocks."""
    in_blocks = [line for line in lines if line.block > 1]
    if not in_blocks:
        return []
    note = f"medians of {max(line.block for line in in_blocks):,} {axis}s"
    noise = any(line.seeds == 1 for line in in_blocks)
    return [f"{note}, with the middle {NOISE:.0%} of them" if noise else note]


def _coincidences(groups: Sequence[Sequence[str]]) -> list[str]:
    """Return which curves coincide, or how many if their names are long."""
    texts = []
    for names in groups:
        plain = [name.replace("\N{NO-BREAK SPACE}", " ") for name in names]
        texts.append(f"{', '.join(plain[:-1])} and {plain[-1]} coincide")
    if all(len(text) <= MOST_CHARACTERS for text in texts):
        return texts
    if len(groups) == 1:
        return [f"{len(groups[0])} curves coincide"]
    return [f"{len(groups)} {'pairs' if all(len(each) == 2 for each in groups) else 'groups'} of curves coincide"]
