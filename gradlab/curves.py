"""Rows to curves, bands and verdicts. Numbers only, and without NumPy, so that `list` and `show` start at once."""

from __future__ import annotations

import math
from itertools import combinations, groupby
from statistics import median, median_low
from typing import TYPE_CHECKING, Literal, NamedTuple

from gradlab.rows import HUGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradlab.rows import Row

Verdict = Literal["falls", "rises", "oscillates", "diverges", "flat"]
Axis = Literal["step", "update", "epoch"]

BOUND = 1000.0  # times its first level: beyond it a curve diverges, even while it is finite
SWING = 0.25  # of its whole range: what a turn must exceed to count
FEWEST = 4  # epochs, below which their means are taken at their word
FEW = 20  # levels, below which their order tells more than their distance
STILL = 1e-5  # of its height: what a curve must exceed to move at all
BOUNCE = 0.2  # of its mean: the standard deviation from which on a curve without a trend oscillates


class Summary(NamedTuple):
    """A run in a line: losses of single steps, and what the curve did."""

    steps: int
    updates: int
    first_loss: float | None
    last_loss: float | None
    best_loss: float | None
    verdict: Verdict | None


class Curve(NamedTuple):
    """Loss against `axis`: x and y of equal length."""

    axis: Axis
    x: list[float]
    y: list[float]


class Band(NamedTuple):
    """Several seeds of a mode: median and range at each x; what is not finite counts as +inf."""

    x: list[float]
    middle: list[float]
    low: list[float]
    high: list[float]


def summarise(rows: Sequence[Row]) -> Summary:
    """Return what a table says of a run; None for the losses and the verdict of a run without rows."""
    if not rows:
        return Summary(0, 0, None, None, None, None)
    finite = [row.loss for row in rows if math.isfinite(row.loss)]
    best = min(finite) if finite else math.nan
    return Summary(len(rows), rows[-1].update + 1, rows[0].loss, rows[-1].loss, best, verdict(rows))


def epochs_of(rows: Iterable[Row]) -> list[list[Row]]:
    """Return the rows of each epoch; a last one of less than half as many as the first goes with the one before it."""
    epochs = [list(epoch) for _, epoch in groupby(rows, key=lambda row: row.epoch)]
    if len(epochs) > 1 and len(epochs[-1]) * 2 < len(epochs[0]):
        epochs[-2:] = [epochs[-2] + epochs[-1]]
    return epochs


def epoch_means(rows: Iterable[Row]) -> list[float]:
    """Return the mean loss of each of `epochs_of`, over its items where rows tell them; else not finite."""
    return [_mean_loss(epoch) for epoch in epochs_of(rows)]


def verdict(rows: Sequence[Row]) -> Verdict:
    """Return what the loss curve did.

    The curve is looked at as a person does, without the noise of single batches: in *levels*, which are the means of
    epochs, of equal blocks of steps where there is one epoch, or the losses themselves where an epoch is one batch.
    Then, in this order:

    diverges
        a loss is not finite or beyond 10¹⁰⁰, or a level of the later half is 1000 times those of the first quarter.
    flat
        its range is at most 10⁻⁵ of its height.
    oscillates
        it turns at least twice by more than a quarter of its range and six standard errors (more than six for more
        than eight levels, among which chance spreads wider), once at least in the later
        half; if the later half swings more than twice as wide as the earlier one, it rises.
    flat or oscillates
        its last fifth is no further from its first level or fifth than chance explains, nor are its levels in order as
        chance has it once in twenty: it oscillates where they deviate from their mean by more than a fifth of it.
    falls
        it ends below its start, and in the lower half of its range.
    rises
        everything else: it ends above its start, or climbs back by more than half of what it fell.
    """
    if not all(abs(row.loss) < HUGE for row in rows):
        return "diverges"
    levels, noise, chance = _levels(rows)
    low, high = min(levels), max(levels)
    half, fifth = len(levels) // 2, max(1, len(levels) // 5)
    earlier, later = levels[:half] or levels, levels[half:]
    begin = max(map(abs, levels[: len(levels) // 4 + 1]))
    if begin and max(later) > BOUND * begin:
        return "diverges"
    if high - low <= STILL * max(abs(low), abs(high)):
        return "flat"
    clear = max(6.0, 2.0 + 2.0 * math.sqrt(2.0 * math.log(len(levels))))  # the more levels, the wider chance spreads
    turns = _turns(levels, max(SWING * (high - low), clear * noise))
    if len(turns) >= 2 and turns[-1] >= half:
        return "rises" if max(later) - min(later) > 2 * (max(earlier) - min(earlier)) else "oscillates"
    start, end = levels[0], _mean(levels[-fifth:]) if noise else levels[-1]
    still = abs(end - _mean(levels[:fifth])) <= chance * noise * math.sqrt(2 / fifth)
    if noise and still and abs(end - start) <= chance * noise * math.sqrt(1 + 1 / fifth) and not _ordered(levels):
        return "oscillates" if math.sqrt(_variance(levels)) > BOUNCE * abs(_mean(levels)) else "flat"
    return "falls" if end < start and end - low <= (high - low) / 2 else "rises"


def curve(rows: Sequence[Row], axis: Axis) -> Curve:
    """Return the loss of each step or update, or the mean loss of each epoch, epochs counted from 1."""
    if axis == "epoch":
        means = epoch_means(rows)
        return Curve(axis, [float(epoch) for epoch in range(1, len(means) + 1)], means)
    if axis == "step":
        return Curve(axis, [float(row.step) for row in rows], [row.loss for row in rows])
    windows = [(update, _mean_loss(list(window))) for update, window in groupby(rows, lambda row: row.update)]
    return Curve(axis, [float(update) for update, _ in windows], [loss for _, loss in windows])


def natural_axis(rows: Sequence[Row]) -> Axis:
    """Return the axis on which the curve reads best: epochs where there are several, of several batches each."""
    return "epoch" if 1 < len(epochs_of(rows)) < len(rows) else "step"


def band(curves: Sequence[Curve]) -> Band:
    """Return median and range over the curves, as far as the longest goes."""
    longest = max(curves, key=lambda each: len(each.x))
    columns = [
        [each.y[nth] if math.isfinite(each.y[nth]) else math.inf for each in curves if nth < len(each.y)]
        for nth in range(len(longest.x))
    ]
    return Band(
        longest.x,
        [median(column) for column in columns],
        [min(column) for column in columns],
        [max(c) for c in columns],
    )


def levels(rows: Sequence[Row]) -> list[float]:
    """Return the losses without the noise of single batches, as `verdict` sees them."""
    return _levels(rows)[0]


def _levels(rows: Sequence[Row]) -> tuple[list[float], float, float]:
    """Return the levels, the standard error of one, and how many of those a difference must exceed to mean something.

    The standard error is 0 where each level is a single loss on the full batch.
    """
    epochs = epochs_of(rows)
    losses = [row.loss for row in rows]
    if len(epochs) == len(losses) > 1:
        return losses, 0.0, 0.0
    if 1 < len(epochs) < FEWEST:  # too few for chance to be told from anything
        return [_mean_loss(epoch) for epoch in epochs], 0.0, 0.0
    if len(epochs) >= FEWEST:
        blocks = epochs
    else:
        size = max(1, len(losses) // max(8, math.isqrt(len(losses))))
        blocks = [list(rows[at : at + size]) for at in range(0, len(rows) // size * size, size)]
        blocks[-1] += rows[len(rows) // size * size :]
    means = [_mean_loss(block) for block in blocks]
    within = math.sqrt(_mean([_variance([row.loss for row in block]) / len(block) for block in blocks]))
    jitter = _jitter(means)
    if len(blocks[0]) > 1 and within <= jitter:
        return means, within, 3.0
    return means, jitter, 3.0 + 15.0 / max(1, len(means) - 2) ** 2  # wider, as Student's t is, where few levels tell


def _jitter(values: Sequence[float]) -> float:
    """Return the noise of a smooth sequence, from the median of its second differences; 0 below three values.

    The median, and not the mean square (von Neumann 1941), since where a curve falls fast it bends without any noise.
    """
    bends = [
        abs(before - 2 * here + after) for before, here, after in zip(values, values[1:], values[2:], strict=False)
    ]
    return median_low(bends) / (0.6745 * math.sqrt(6)) if bends else 0.0


def _ordered(values: Sequence[float]) -> bool:
    """Say whether a short sequence goes one way more than one in twenty does by chance (Mann 1945, Kendall 1948)."""
    n = len(values)
    if n >= FEW:
        return False  # there the standard error of the levels is known well enough
    signs = [(after > before) - (after < before) for before, after in combinations(values, 2)]
    return abs(sum(signs)) >= 1.95 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)


def _turns(values: Sequence[float], least: float) -> list[int]:
    """Return where the sequence turns: the extremes between moves of more than `least` in opposite directions."""
    turns: list[int] = []
    low = high = 0
    direction = 0
    for nth, value in enumerate(values):
        low = nth if value < values[low] else low
        high = nth if value > values[high] else high
        if direction >= 0 and values[high] - value > least:
            turns += [high] if direction else []
            direction, low = -1, nth
            high = nth
        elif direction <= 0 and value - values[low] > least:
            turns += [low] if direction else []
            direction, high = 1, nth
            low = nth
    return turns


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return sum((value - mean) * (value - mean) for value in values) / max(1, len(values) - 1)


def _mean_loss(rows: Sequence[Row]) -> float:
    """Return the mean loss over all items of the rows."""
    return sum(row.loss * row.items for row in rows) / sum(row.items for row in rows)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)  # unlike fmean, inf rather than an exception where the sum overflows
