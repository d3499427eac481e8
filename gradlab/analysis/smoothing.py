"""Smooth curves: running medians, and medians of equal blocks with the band of their noise."""

from __future__ import annotations

from bisect import bisect_left, insort
from statistics import median
from typing import TYPE_CHECKING

from gradlab.analysis.curves import Band

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_POINTS = 250  # a noisy curve with more is drawn as medians of blocks
BLOCKS = 60  # at most
NOISY = 0.2  # of the points are turns in a noisy curve; in pure noise, two of three are
NOISE = 0.8  # share of the points of a block within its band


def running_median(values: Sequence[float], n: int) -> list[float]:
    """Return the median of the n values around each one, of fewer at the ends.

    >>> running_median([5, 1, 9, 2, 3], 3)
    [3.0, 5, 2, 3, 2.5]
    """
    before, after = n // 2, (n - 1) // 2
    window = sorted(values[:after])
    smooth = []
    for nth in range(len(values)):
        if nth + after < len(values):
            insort(window, values[nth + after])
        if nth > before:
            del window[bisect_left(window, values[nth - before - 1])]
        half = len(window) // 2
        smooth.append(window[half] if len(window) % 2 else (window[half - 1] + window[half]) / 2)
    return smooth


def smoothed(band: Band, n: int, points: int) -> Band:
    """Return the band with running medians of n in place of its first `points` points."""
    columns = ([*running_median(values[:points], n), *values[points:]] for values in band[1:])
    return Band(band.x, *columns)


def block_size(values: Sequence[float]) -> int:
    """Return how many points of a curve share a block; 1 if it is short or smooth and can be drawn as it is.

    >>> block_size([1, 2] * 125), block_size([1, 2] * 150), block_size(range(10_000))
    (1, 5, 1)
    """
    if len(values) <= MOST_POINTS:
        return 1
    turns = sum(
        (here - before) * (after - here) < 0
        for before, here, after in zip(values, values[1:], values[2:], strict=False)
    )
    return -(-len(values) // BLOCKS) if turns > NOISY * len(values) else 1


def in_blocks(band: Band, points: int, size: int, *, noise: bool) -> Band:
    """Return the band with medians of blocks of equal `size` in place of its first `points` points.

    Args:
        band: median and range of a curve.
        points: the number of points to divide into blocks.
        size: the number of points of a block.
        noise: low and high enclose the middle 80 % of each block; else they are the medians of low and high.
    """
    blocks = [range(begin, min(begin + size, points)) for begin in range(0, points, size)]
    x, middle, low, high = [], [], [], []
    for block in blocks:
        medians = sorted(band.median[nth] for nth in block)
        spare = int((1 - NOISE) / 2 * len(medians) + 0.5)
        x.append(median(band.x[nth] for nth in block))
        middle.append(_middle(medians))
        low.append(medians[spare] if noise else _middle(sorted(band.low[nth] for nth in block)))
        high.append(medians[-1 - spare] if noise else _middle(sorted(band.high[nth] for nth in block)))
    rest = [values[points:] for values in band]
    return Band(x + rest[0], middle + rest[1], low + rest[2], high + rest[3])


def _middle(ordered: Sequence[float]) -> float:
    """Return the median of sorted values; the mean of two may overflow."""
    least, most = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return least if least == most else min(max(least / 2 + most / 2, least), most)
