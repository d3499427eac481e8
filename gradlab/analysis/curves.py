"""Turn rows into curves, bands and verdicts, without NumPy or torch, so that `list` and `show` start fast."""

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
DIVERGES = 1000.0  # times the start: above it a curve diverges, even if it is finite
DIVERGES_BY_CHANCE = 1e5  # the same if the first loss of mini-batches may be small by chance
RISES = 3.0  # times the first loss: above it a curve rises, unless that loss may be small by chance
OUTLIERS = 50  # one loss in 50 may be far below all others
LOW_BY_CHANCE = 0.1  # of the median: if later losses are below it, the first may be small by chance
TURN = 0.25  # of the whole range: smaller turns do not count
FEWEST_EPOCHS = 4  # with fewer, noise cannot be estimated from the epoch means
FEW = 20  # with fewer levels, their order is tested; with fewer losses, any may be small by chance
FLAT = 1e-5  # of the height: a curve with a smaller range is flat
BOUNCES = 0.2  # of the mean: a curve without a trend oscillates if its standard deviation is larger


class Summary(NamedTuple):
    """A run in one line: losses of single steps, and the verdict on the curve."""

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
        ends: for each epoch, the number of steps up to its end; the last is the total number of steps.
        items: number of items in each mean loss; None if all are equal.
    """

    values: Sequence[float]
    ends: Sequence[int]
    items: Sequence[float] | None = None


class Curve(NamedTuple):
    """Loss, or another quantity in its place, against `axis`: x and y of equal length."""

    axis: Axis
    x: list[float]
    y: list[float]


class Band(NamedTuple):
    """Several seeds of a mode: median and range at each x. Losses that are not finite count as +inf."""

    x: list[float]
    median: list[float]
    low: list[float]
    high: list[float]


def summarise(rows: Sequence[Row]) -> Summary:
    """Return the summary of a run; without rows, its losses and verdict are None."""
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
    """Return the columns of the rows that a verdict needs."""
    items = [row.items for row in rows]
    weighted = any(each != 1 for each in items)
    return Losses([row.loss for row in rows], ends_of([row.epoch for row in rows]), items if weighted else None)


def ends_of(epochs: Sequence[int]) -> list[int]:
    """Return the number of steps up to the end of each epoch, from the epoch of each step."""
    inner = [nth for nth, (before, after) in enumerate(pairwise(epochs), 1) if before != after]
    return [*inner, len(epochs)] if epochs else []


def epoch_means(rows: Sequence[Row]) -> list[float]:
    """Return the mean loss of each epoch, weighted by items.

    A last epoch with less than half the steps of the first is merged into the one before it.
    """
    losses = losses_of(rows)
    return [_mean_over(losses, *span) for span in _spans(losses.ends)]


def last_tenth_mean(rows: Sequence[Row]) -> float:
    """Return the mean loss of the last tenth of the steps, of at least one; for curves without epochs."""
    last = max(1, len(rows) // 10)
    return sum(row.loss for row in rows[-last:]) / last


def verdict(rows: Sequence[Row]) -> Verdict:
    """Return the verdict on the loss curve; see `verdict_of`."""
    return verdict_of(losses_of(rows))


def verdict_of(losses: Losses) -> Verdict:
    """Return the verdict on the loss curve.

    The verdict rests on *levels*, which remove the noise of single batches. Levels are the means of epochs. With one
    epoch, they are the means of equal blocks of steps. If an epoch is one batch, they are the losses themselves.

    *Late losses* are the losses of the later half that are not 0, without the lowest 2 %. The first loss *may be small
    by chance* if the lowest late loss is below a tenth of their median, or if there are fewer than 20.

    The first of these that applies is the verdict:

    diverges
        A loss is not finite or exceeds 10¹⁰⁰. Or a level of the later half exceeds 1000 times the largest level of the
        first quarter. Or all late losses exceed 1000 times the first loss (10⁵ times if it may be small by chance).
    flat
        The range is at most 10⁻⁵ of the height.
    oscillates
        The curve turns at least twice, and at least once in the later half. A turn must exceed a quarter of the range
        and six standard errors, or more with many levels. If the later half swings more than twice as wide as the
        earlier half, the curve rises instead.
    rises
        On mini-batches, all late losses exceed 3 times the first loss, and it cannot be small by chance.
    flat or oscillates
        On mini-batches, the last fifth is close to the first level and to the first fifth, within chance. The levels
        have no significant trend (5 %). The curve oscillates if their standard deviation exceeds a fifth of their
        mean; otherwise it is flat.
    falls
        The curve ends below its start and in the lower half of its range.
    rises
        Everything else: the curve ends above its start, or regains more than half of its fall.
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
    clear = max(6.0, 2.0 + 2.0 * math.sqrt(2.0 * math.log(len(levels))))  # the range of noise grows with their number
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
    """Return the loss of each step or update, or the mean loss of each epoch; epochs count from 1."""
    if axis == "epoch":
        first_rows = [rows[begin] for begin, _ in _spans(losses_of(rows).ends)]
        return Curve(axis, [float(row.epoch + 1) for row in first_rows], epoch_means(rows))
    if axis == "step":
        return Curve(axis, [float(row.step) for row in rows], [row.loss for row in rows])
    losses, ends = losses_of(rows), ends_of([row.update for row in rows])
    means = [_mean_over(losses, *span) for span in zip([0, *ends], ends, strict=False)]
    return Curve(axis, [float(rows[end - 1].update) for end in ends], means)


def natural_axis(rows: Sequence[Row]) -> Axis:
    """Return the axis to plot over: epochs if there are several with several batches each, else steps."""
    return "epoch" if len(_spans(losses_of(rows).ends)) > 1 and rows[-1].step > rows[-1].epoch else "step"


def band(curves: Sequence[Curve]) -> Band:
    """Return median and range over the curves at every x that one of them has."""
    by_x: dict[float, list[float]] = {}
    for each in curves:
        for x, y in zip(each.x, each.y, strict=True):
            by_x.setdefault(x, []).append(y if math.isfinite(y) else math.inf)
    places = sorted(by_x)
    columns = [by_x[x] for x in places]
    low, high = [min(each) for each in columns], [max(each) for each in columns]
    # The mean of two losses may overflow.
    middle = [max(least, min(median(each), most)) for each, least, most in zip(columns, low, high, strict=True)]
    return Band(places, middle, low, high)


def levels(rows: Sequence[Row]) -> list[float]:
    """Return the levels that `verdict` uses: the losses without the noise of single batches."""
    return list(_levels(losses_of(rows))[0])


def _levels(losses: Losses) -> tuple[Sequence[float], float, float]:
    """Return the levels, the standard error of one, and the number of standard errors of a significant difference.

    The standard error is 0 if each level is a single loss on the full batch.
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
    return means, jitter, 3.0 + 15.0 / max(1, len(means) - 2) ** 2  # wider for few levels, like Student's t


def _jitter(values: Sequence[float]) -> float:
    """Return the noise of a smooth sequence, from the median of its second differences; 0 below three values.

    The mean square (von Neumann 1941) would count the bends of a steep curve as noise; the median does not.
    """
    bends = [
        abs(before - 2 * here + after) for before, here, after in zip(values, values[1:], values[2:], strict=False)
    ]
    return median_low(bends) / (0.6745 * math.sqrt(6)) if bends else 0.0


def _later_over_first(values: Sequence[float]) -> tuple[float, bool]:
    """Compare the losses of the later half with the first loss: if a curve leaps, only the first shows its start.

    Losses of 0 are left out; a correctly classified sample can have one.

    Returns:
        The ratio to the first loss that all of them exceed, except one in `OUTLIERS`. And whether the first loss may
        be small by chance, because such losses occur later too.
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
        return False  # the comparison with the standard error is reliable then
    signs = [(after > before) - (after < before) for before, after in combinations(values, 2)]
    return abs(sum(signs)) >= 1.95 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)


def _turns(values: Sequence[float], least: float) -> list[int]:
    """Return the turning points: extremes between moves in opposite directions, each larger than `least`."""
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
    """Return begin and end of each epoch; a last one shorter than half the first is merged into the one before."""
    spans = list(zip([0, *ends], ends, strict=False))
    if len(spans) > 1 and (spans[-1][1] - spans[-1][0]) * 2 < spans[0][1]:
        spans[-2:] = [(spans[-2][0], spans[-1][1])]
    return spans


def _mean_over(losses: Losses, begin: int, end: int) -> float:
    """Return the mean loss of these steps, weighted by items."""
    values = losses.values[begin:end]
    if losses.items is None:
        return sum(values) / len(values)
    items = losses.items[begin:end]
    total: float = sum(map(mul, values, items))
    return total / sum(items)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)  # returns inf if the sum overflows, whereas fmean raises
