"""Smooth curves: running medians equal medians of windows, and blocks keep what a curve shows."""

from __future__ import annotations

import math
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradlab.analysis.curves import Band
from gradlab.analysis.smoothing import block_size, in_blocks, running_median, smoothed
from tests.gallery import noisy

LOSSES = st.lists(st.floats(-1e99, 1e99), min_size=1, max_size=40)


@given(LOSSES, st.integers(1, 50))
def test_a_running_median_is_that_of_each_window(values: list[float], n: int) -> None:
    windows = [values[max(0, nth - n // 2) : nth + (n - 1) // 2 + 1] for nth in range(len(values))]
    assert running_median(values, n) == pytest.approx([median(window) for window in windows])


def test_points_after_the_finite_ones_stay() -> None:
    band = Band([0.0, 1.0, 2.0, 3.0], [3.0, 1.0, 2.0, math.inf], [3.0, 1.0, 2.0, 7.0], [3.0, 1.0, 2.0, math.inf])
    assert smoothed(band, 3, 3) == (band.x, [2.0, 2.0, 1.5, math.inf], [2.0, 2.0, 1.5, 7.0], [2.0, 2.0, 1.5, math.inf])


def test_only_long_noisy_curves_are_drawn_in_blocks() -> None:
    assert block_size(noisy(250)) == 1
    assert block_size(noisy(6000)) == 100
    assert block_size([1 / (1 + step) for step in range(6000)]) == 1
    assert block_size([math.sin(step / 20) for step in range(6000)]) == 1


def test_a_block_has_its_median_and_the_middle_of_its_noise() -> None:
    losses = [float(nth) for nth in (9, 0, 1, 2, 3, 4, 5, 6, 7, 8)]
    band = in_blocks(Band([float(x) for x in range(10)], losses, losses, losses), 10, 10, noise=True)
    assert band == ([4.5], [4.5], [1.0], [8.0])


def test_a_block_of_several_seeds_keeps_their_range() -> None:
    band = Band([0.0, 1.0, 2.0, 3.0], [5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0, 4.0], [9.0, 9.5, 9.5, math.inf])
    assert in_blocks(band, 3, 3, noise=False) == ([1.0, 3.0], [6.0, 8.0], [2.0, 4.0], [9.5, math.inf])


def test_the_median_of_huge_losses_does_not_overflow() -> None:
    band = Band([0.0, 1.0], [1.7e308, 1.7e308], [1.7e308] * 2, [1.7e308] * 2)
    assert in_blocks(band, 2, 2, noise=True).median == [1.7e308]
