"""Rows to curves, bands and verdicts. Numbers only, and without NumPy, so that `list` and `show` start at once."""

from __future__ import annotations

import math
from itertools import combinations, pairwise
from operator import mul
from statistics import median, median_low
from typing import TYPE_CHECKING, Literal, NamedTuple

from gradlab.rows import HUGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradlab.rows import Row

Verdict = Literal["falls", "rises", "oscillates", "diverges", "flat"]
Axis = Literal["step", "update", "epoch"]

# Thresholds of a verdict
DIVERGES = 1000.0  # times the start: beyond it a curve diverges, even while it is finite
DIVERGES_BY_CHANCE = 1e5  # the same where the first loss of mini-batches may be small by chance
RISES = 3.0  # times the first loss: beyond it a curve rises, unless that loss may be small by chance
OUTLIERS = 50  # one loss in 50 may be far below all others
LOW_BY_CHANCE = 0.1  # of the median: where other losses are below it, the first may be small by chance
TURN = 0.25  # of the whole range: a turn must exceed it to count
FEWEST_EPOCHS = 4  # with fewer, epoch means are compared without regard to noise
FEW = 20  # of fewer levels the order matters, of more their distance; of fewer losses any may be chance
FLAT = 1e-5  # of the height: a curve with less range is flat
BOUNCES = 0.2  # of the mean: a curve without a trend oscillates where its standard deviation exceeds it


class Summary(NamedTuple):
    """A run in a line: losses of single steps, and the verdict on the curve."""

    steps: int
    updates: int
    first_loss: float | None
    last_loss: float | None
    best_loss: float | None
    verdict: Verdict | None


class Losses(NamedTuple):
    """The columns of a run's rows that a verdict needs.

    Attributes:
        values: the loss of each step.
        ends: for each epoch, the number of steps up to its end; the last is the number of all steps.
        items: how many items each loss is the mean of; None where all have the same number.
    """

    values: Sequence[float]
    ends: Sequence[int]
    items: Sequence[float] | None = None


class Curve(NamedTuple):
    """Loss against `axis`: x and y of equal length."""

    axis: Axis
    x: list[float]
    y: list[float]


class Band(NamedTuple):
    """Several seeds of a mode: median and range at each x; losses that are not finite count as +inf."""

    x: list[float]
    median: list[float]
    low: list[float]
    high: list[float]


def summarise(rows: Sequence[Row]) -> Summary:
    """Return the summary of a run; without rows its losses and verdict are None."""
    return summarise_losses(losses_of(rows), rows[-1].update + 1 if rows else 0)


def summarise_losses(losses: Losses, updates: int) -> Summary:
    """Return the summary of a run from its losses and number of updates."""
    values = losses.values
    if not values:
        return Summary(0, 0, None, None, None, None)
    finite = values if all(map(math.isfinite, values)) else [value for value in values if math.isfinite(value)]
    best = min(finite, default=math.nan)
    return Summary(len(values), updates, values[0], values[-1], best, verdict_of(losses))


def losses_of(rows: Sequence[Row]) -> Losses:
    """Return the losses of rows."""
    items = [row.items for row in rows]
    weighted = any(each != 1 for each in items)
    return Losses([row.loss for row in rows], ends_of([row.epoch for row in rows]), items if weighted else None)


def ends_of(epochs: Sequence[int]) -> list[int]:
    """Return the number of steps up to the end of each epoch, from the epoch of each step."""
    inner = [nth for nth, (before, after) in enumerate(pairwise(epochs), 1) if before != after]
    return [*inner, len(epochs)] if epochs else []


def epoch_means(rows: Sequence[Row]) -> list[float]:
    """Return the mean loss over the items of each epoch.

    A last epoch of less than half as many steps as the first counts with the one before it.
    """
    losses = losses_of(rows)
    return [_mean_over(losses, *span) for span in _spans(losses.ends)]


def verdict(rows: Sequence[Row]) -> Verdict:
    """Return the verdict on the loss curve, as `verdict_of` does."""
    return verdict_of(losses_of(rows))


def verdict_of(losses: Losses) -> Verdict:
    """Return the verdict on the loss curve.

    It looks at the curve without the noise of single batches, in *levels*: the means of epochs, or of equal blocks of
    steps where there is one epoch, or the losses themselves where an epoch is one batch. The first that applies:

    diverges
        a loss is not finite or beyond 10¹⁰⁰; or a level of the later half exceeds 1000 times those of the first
        quarter; or the losses of the later half that are not 0, all but one in 50, exceed the first loss 1000 times
        (10⁵ times where the first loss may be small by chance: where one in 50 is below a tenth of their median).
    flat
        its range is at most 10⁻⁵ of its height.
    oscillates
        it turns at least twice by more than a quarter of its range and six standard errors (more than six for more
        than eight levels, among which chance spreads wider), once at least in the later
        half; if the later half swings more than twice as wide as the earlier one, it rises.
    rises
        on mini-batches, the losses of the later half that are not 0, all but one in 50, exceed the first loss 3 times,
        and that is not small by chance, as above.
    flat or oscillates
        its last fifth is no further from its first level or fifth than chance explains, nor are its levels in order as
        chance has it once in twenty: it oscillates where they deviate from their mean by more than a fifth of it.
    falls
        it ends below its start, and in the lower half of its range.
    rises
        everything else: it ends above its start, or climbs back by more than half of what it fell.
    """
    values = losses.values
    if not (all(map(math.isfinite, values)) and min(values) > -HUGE and max(values) < HUGE):
        return "diverges"
    levels, noise, chance = _levels(losses)
    low, high = min(levels), max(levels)
    half, fifth = len(levels) // 2, max(1, len(levels) // 5)
    earlier, later = levels[:half] or levels, levels[half:]
    begin = max(map(abs, levels[: len(levels) // 4 + 1]))
    growth, by_chance = _later_over_first(values)
    if begin and (max(later) > DIVERGES * begin or growth > (DIVERGES_BY_CHANCE if noise and by_chance else DIVERGES)):
        return "diverges"
    if high - low <= FLAT * max(abs(low), abs(high)):
        return "flat"
    clear = max(6.0, 2.0 + 2.0 * math.sqrt(2.0 * math.log(len(levels))))  # the more levels, the wider chance spreads
    turns = _turns(levels, max(TURN * (high - low), clear * noise))
    if len(turns) >= 2 and turns[-1] >= half:
        return "rises" if max(later) - min(later) > 2 * (max(earlier) - min(earlier)) else "oscillates"
    if noise and growth > RISES and not by_chance:
        return "rises"
    start, end = levels[0], _mean(levels[-fifth:]) if noise else levels[-1]
    unmoved = abs(end - _mean(levels[:fifth])) <= chance * noise * math.sqrt(2 / fifth)
    if noise and unmoved and abs(end - start) <= chance * noise * math.sqrt(1 + 1 / fifth) and not _ordered(levels):
        return "oscillates" if math.sqrt(_variance(levels)) > BOUNCES * abs(_mean(levels)) else "flat"
    return "falls" if end < start and end - low <= (high - low) / 2 else "rises"


def curve(rows: Sequence[Row], axis: Axis) -> Curve:
    """Return the loss of each step or update, or the mean loss of each epoch, epochs counted from 1."""
    if axis == "epoch":
        means = epoch_means(rows)
        return Curve(axis, [float(epoch) for epoch in range(1, len(means) + 1)], means)
    if axis == "step":
        return Curve(axis, [float(row.step) for row in rows], [row.loss for row in rows])
    losses, ends = losses_of(rows), ends_of([row.update for row in rows])
    means = [_mean_over(losses, *span) for span in zip([0, *ends], ends, strict=False)]
    return Curve(axis, [float(rows[end - 1].update) for end in ends], means)


def natural_axis(rows: Sequence[Row]) -> Axis:
    """Return the axis on which the curve reads best: epochs where there are several, of several batches each."""
    return "epoch" if 1 < len(_spans(losses_of(rows).ends)) < len(rows) else "step"


def band(curves: Sequence[Curve]) -> Band:
    """Return median and range over the curves, as far as the longest goes."""
    longest = max(curves, key=lambda each: len(each.x))
    columns = [
        [each.y[nth] if math.isfinite(each.y[nth]) else math.inf for each in curves if nth < len(each.y)]
        for nth in range(len(longest.x))
    ]
    low, high = [min(each) for each in columns], [max(each) for each in columns]
    # The mean of two losses may overflow.
    middle = [max(least, min(median(each), most)) for each, least, most in zip(columns, low, high, strict=True)]
    return Band(longest.x, middle, low, high)


def levels(rows: Sequence[Row]) -> list[float]:
    """Return the losses without the noise of single batches, as `verdict` sees them."""
    return list(_levels(losses_of(rows))[0])


def _levels(losses: Losses) -> tuple[Sequence[float], float, float]:
    """Return the levels, the standard error of one, and how many standard errors make a significant difference.

    The standard error is 0 where each level is a single loss on the full batch.
    """
    values = losses.values
    if len(losses.ends) == len(values) > 1:
        return values, 0.0, 0.0
    spans = _spans(losses.ends)
    if 1 < len(spans) < FEWEST_EPOCHS:  # too few to estimate noise
        return [_mean_over(losses, *span) for span in spans], 0.0, 0.0
    if len(spans) < FEWEST_EPOCHS:
        size = max(1, len(values) // max(8, math.isqrt(len(values))))
        whole = len(values) // size * size
        spans = [(at, at + size) for at in range(0, whole, size)]
        spans[-1] = (spans[-1][0], len(values))
    means = [_mean_over(losses, *span) for span in spans]
    within = math.sqrt(_mean([_variance(values[begin:end]) / (end - begin) for begin, end in spans]))
    jitter = _jitter(means)
    if spans[0][1] > 1 and within <= jitter:
        return means, within, 3.0
    return means, jitter, 3.0 + 15.0 / max(1, len(means) - 2) ** 2  # wider for few levels, as Student's t


def _jitter(values: Sequence[float]) -> float:
    """Return the noise of a smooth sequence, from the median of its second differences; 0 below three values.

    The median, and not the mean square (von Neumann 1941), since where a curve falls fast it bends without any noise.
    """
    bends = [
        abs(before - 2 * here + after) for before, here, after in zip(values, values[1:], values[2:], strict=False)
    ]
    return median_low(bends) / (0.6745 * math.sqrt(6)) if bends else 0.0


def _later_over_first(values: Sequence[float]) -> tuple[float, bool]:
    """Compare the losses of the later half with the first loss, which alone shows the start of a curve that leaps.

    Losses of 0, of correctly classified samples, are left out.

    Returns:
        The ratio to the first loss that all of them exceed but one in `OUTLIERS`; and whether the first loss may be
        small by chance, since such losses occur later, too.
    """
    start, later = abs(values[0]), sorted(each for each in values[len(values) // 2 :] if each)
    if not start or not later:
        return 0.0, True
    low = later[len(later) // OUTLIERS]
    return low / start, len(later) < FEW or low < LOW_BY_CHANCE * median(later)


def _ordered(values: Sequence[float]) -> bool:
    """Return whether a short sequence has a trend, at the 5 % level (Mann 1945, Kendall 1948)."""
    n = len(values)
    if n >= FEW:
        return False  # there the standard error of the levels is known well enough
    signs = [(after > before) - (after < before) for before, after in combinations(values, 2)]
    return abs(sum(signs)) >= 1.95 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)


def _turns(values: Sequence[float], least: float) -> list[int]:
    """Return the turning points: the extremes between moves of more than `least` in opposite directions."""
    turns: list[int] = []
    low = high = direction = 0
    lowest = highest = values[0]
    for nth, value in enumerate(values):
        if value < lowest:
            low, lowest = nth, value
        if value > highest:
            high, highest = nth, value
        if direction >= 0 and highest - value > least:
            turns += [high] if direction else []
            direction = -1
        elif direction <= 0 and value - lowest > least:
            turns += [low] if direction else []
            direction = 1
        else:
            continue
        low = high = nth
        lowest = highest = value
    return turns


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    distances = [value - mean for value in values]
    squares: float = sum(map(mul, distances, distances))
    return squares / max(1, len(values) - 1)


def _spans(ends: Sequence[int]) -> list[tuple[int, int]]:
    """Return begin and end of each epoch; a last one of less than half the first goes with the one before it."""
    spans = list(zip([0, *ends], ends, strict=False))
    if len(spans) > 1 and (spans[-1][1] - spans[-1][0]) * 2 < spans[0][1]:
        spans[-2:] = [(spans[-2][0], spans[-1][1])]
    return spans


def _mean_over(losses: Losses, begin: int, end: int) -> float:
    """Return the mean loss over all items of these steps."""
    values = losses.values[begin:end]
    if losses.items is None:
        return sum(values) / len(values)
    items = losses.items[begin:end]
    total: float = sum(map(mul, values, items))
    return total / sum(items)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)  # unlike fmean, inf rather than an exception where the sum overflows
