"""Paired differences: Student's t, pairs, and what is said when it is only chance."""

from __future__ import annotations

import math
from random import Random
from statistics import fmean

import pytest
from scipy.stats import t, ttest_rel  # type: ignore[import-untyped]  # scipy carries no types

from gradlab.analysis.intervals import Difference, paired_difference, t975


@pytest.mark.parametrize("freedom", [*range(1, 31)])
def test_the_table_is_that_of_student(freedom: int) -> None:
    assert t975(freedom) == pytest.approx(t.ppf(0.975, freedom), abs=5e-5)  # four decimals


@pytest.mark.parametrize("freedom", [31, 40, 100, 1000])
def test_beyond_the_table_the_expansion_is_within_its_next_term(freedom: int) -> None:
    # What the next term of the expansion would add is about 3/freedom².
    assert t975(freedom) == pytest.approx(t.ppf(0.975, freedom), abs=3.5 / freedom**2)


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    draw = Random(7)  # noqa: S311 - chance, not a secret
    these, those = [draw.gauss(1, 1) for _ in range(9)], [draw.gauss(0, 1) for _ in range(9)]
    found = paired_difference(these, those)
    interval = ttest_rel(these, those).confidence_interval(0.95)
    assert found is not None
    assert found.mean - found.half_width == pytest.approx(interval.low, rel=1e-4)
    assert found.mean + found.half_width == pytest.approx(interval.high, rel=1e-4)


def test_what_all_pairs_share_does_not_hide_a_difference() -> None:
    those = [0.0, 100.0, -50.0, 1000.0]
    found = paired_difference([value + 1 + 0.01 * nth for nth, value in enumerate(those)], those)
    assert found is not None
    assert found.significant
    assert found.mean == pytest.approx(1.015)


def test_chance_alone_is_clear_in_about_one_case_of_twenty() -> None:
    draw = Random(1)  # noqa: S311 - chance, not a secret
    clear = []
    for _ in range(2000):
        found = paired_difference([draw.gauss(0, 1) for _ in range(5)], [draw.gauss(0, 1) for _ in range(5)])
        assert found is not None
        clear.append(found.significant)
    assert 0.035 < fmean(clear) < 0.065  # three standard errors of 2000 trials about 0.05


@pytest.mark.parametrize("these", [[], [1.0], [1.0, math.nan], [math.inf, 1.0]])
def test_too_few_pairs_or_infinite_losses_have_no_difference(these: list[float]) -> None:
    assert paired_difference(these, [1.0, 2.0][: len(these)]) is None


def test_pairs_of_unequal_length_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1.0, 2.0], [1.0])


def test_a_difference_is_clear_when_its_interval_leaves_out_0() -> None:
    assert Difference(1.0, 0.9).significant
    assert not Difference(-1.0, 1.0).significant
