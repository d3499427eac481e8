"""Curves: the verdict that a person would give, summaries, means of epochs, bands, axes."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradlab.analysis import curves
from gradlab.analysis.curves import Curve, Verdict, band, curve, epoch_means, natural_axis, summarise, verdict
from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAN, INF = math.nan, math.inf
SEEDS = range(50)

# What a person says of these losses, each on the full batch: one step an epoch.
FULL_BATCH: list[tuple[str, Verdict, list[float]]] = [
    ("1/n", "falls", [1 / (1 + n) for n in range(100)]),
    ("straight down", "falls", [1.5, 1.4, 1.3, 1.2]),
    ("fall, then a noisy plateau", "falls", [max(5 - n / 4, 1) + 0.05 * math.sin(n * n) for n in range(100)]),
    ("slow climb", "rises", [1.4, 1.9, 2.0, 2.8, 3.5]),
    ("doubling, short of 1000 times", "rises", [2.0**n for n in range(9)]),
    ("exponential growth beyond 1000 times", "diverges", [1.2**n for n in range(60)]),
    ("nan at the start", "diverges", [NAN, 1.0, 1.0]),
    ("nan amid", "diverges", [3.0, 2.0, NAN, 1.0, 0.5]),
    ("nan at the end", "diverges", [3.0, 2.0, 1.0, NAN]),
    ("inf at the start", "diverges", [INF, 1.0, 1.0]),
    ("inf amid", "diverges", [3.0, 2.0, INF, 1.0, 0.5]),
    ("minus inf at the end", "diverges", [3.0, 2.0, 1.0, -INF]),
    ("nothing but nan", "diverges", [NAN]),
    ("1e200", "diverges", [1e200, 1e200, 1e200]),
    ("1e308", "diverges", [1e308, 1e308, 1e308]),
    ("-1e308", "diverges", [1.0, -1e308]),
    ("undamped sine", "oscillates", [2 + math.sin(n / 5) for n in range(200)]),
    ("undamped cosine, whole periods", "oscillates", [1 + math.cos(2 * math.pi * n / 50) for n in range(201)]),
    ("undamped, squared", "oscillates", [math.cos(n / 10) ** 2 for n in range(200)]),
    ("alternating", "oscillates", [5.0, 1.0, 5.0, 1.0]),
    ("alternating for long", "oscillates", [5.0, 1.0] * 50),
    ("alternating below zero", "oscillates", [-5.0, -1.0] * 50),
    ("ringing that dies out low", "falls", [0.5 + 3 * abs(0.93**n * math.cos(n / 3)) for n in range(200)]),
    ("ringing about its end", "falls", [2 + 2 * 0.95**n * math.cos(n / 3) for n in range(200)]),
    ("swings ever higher", "rises", [abs(1.02**n * math.cos(n / 3)) for n in range(150)]),
    ("down and all the way up", "rises", [abs(n - 50.0) for n in range(110)]),
    ("down and back to the start, five steps", "rises", [3.0, 2.0, 1.0, 2.0, 3.0]),
    ("down and four fifths back", "rises", [100.0 - n for n in range(51)] + [50.0 + 0.8 * n for n in range(1, 51)]),
    ("down and a fifth back", "falls", [100.0 - n for n in range(81)] + [20.0 + 0.8 * n for n in range(1, 21)]),
    ("up a little, then down for good", "falls", [1.0, 2.0, 3.0, 2.0, 1.0, 0.4, 0.3, 0.2, 0.2, 0.2]),
    ("up, and most of the way back", "rises", [1.0, 3.0, 5.0, 4.0, 3.0, 2.0, 1.5]),
    ("down and two thirds back", "rises", [100.0 - n for n in range(60)] + [41.0 + n for n in range(1, 40)]),
    ("half a period of an undamped cosine", "rises", [1 + math.cos(2 * math.pi * n / 99) for n in range(100)]),
    ("constant", "flat", [1.0] * 10),
    ("as good as constant", "flat", [1.0, 1.0000001] * 20),
    ("constant 0", "flat", [0.0] * 10),
    ("constant below zero", "flat", [-3.0] * 10),
    ("one step", "flat", [1.0]),
    ("two steps down", "falls", [2.0, 1.0]),
    ("two steps up", "rises", [1.0, 2.0]),
    ("two equal steps", "flat", [1.0, 1.0]),
    ("down below zero", "falls", [-float(n) for n in range(20)]),
    ("up from below zero", "rises", [n - 20.0 for n in range(20)]),
    ("down from tiny", "falls", [1e-300, 1e-301, 1e-302]),
    ("subnormal", "falls", [5e-324, 0.0]),
]


def full_batch(losses: Sequence[float]) -> list[Row]:
    return [Row(nth, nth, nth, loss) for nth, loss in enumerate(losses)]


def mini_batches(losses: Sequence[float], per_epoch: int) -> list[Row]:
    return [Row(nth, nth, nth // per_epoch, loss) for nth, loss in enumerate(losses)]


def verdicts(loss: Callable[[float, Random], float], per_epoch: int, epochs: int) -> Counter[str]:
    """Count the verdicts over 50 seeds of the curve `loss`, a function of the share of the run and of the noise."""
    steps = per_epoch * epochs
    counted: Counter[str] = Counter()
    for seed in SEEDS:
        noise = Random(seed)  # noqa: S311 - chance, not a secret
        counted[verdict(mini_batches([loss(nth / steps, noise) for nth in range(steps)], per_epoch))] += 1
    return counted


@pytest.mark.parametrize(("expected", "losses"), [pytest.param(*row[1:], id=row[0]) for row in FULL_BATCH])
def test_the_verdict_is_the_one_a_person_would_give(expected: Verdict, losses: list[float]) -> None:
    assert verdict(full_batch(losses)) == expected


def test_the_table_of_curves_holds_every_verdict() -> None:
    assert {row[1] for row in FULL_BATCH} == set(get_args(Verdict))


def test_a_growing_oscillation_rises_about_any_level() -> None:
    assert verdict(full_batch([10 + 1.015**n * math.cos(n / 3) for n in range(200)])) == "rises"


def test_the_verdict_does_not_hang_on_the_unit_of_the_loss() -> None:
    usual = [row for row in FULL_BATCH if all(1e-6 < abs(loss) < 1e6 for loss in row[2])]
    assert {expected for _, expected, _ in usual} == set(get_args(Verdict))
    for _, expected, losses in usual:
        assert verdict(full_batch([2.0**20 * loss for loss in losses])) == expected


def test_a_loss_that_starts_at_zero_and_then_is_5_rises() -> None:
    assert verdict(full_batch([0.0, 5.0])) == "rises"


@pytest.mark.parametrize("per_epoch", [1, 2, 7, 40, 400])
def test_one_nan_among_many_steps_diverges(per_epoch: int) -> None:
    losses = [1 / (1 + n) for n in range(400)]
    losses[200] = NAN
    assert verdict(mini_batches(losses, per_epoch)) == "diverges"


@pytest.mark.parametrize("per_epoch", [1, 29, 400])
@pytest.mark.parametrize("end", [9e7, 1e5])
def test_a_leap_at_the_first_update_diverges(per_epoch: int, end: float) -> None:
    losses = [0.72, *(1e7 + (end - 1e7) * nth / 399 for nth in range(399))]
    assert verdict(mini_batches(losses, per_epoch)) == "diverges"


def test_a_leap_with_a_few_right_batches_diverges() -> None:
    losses = [0.72, *(0.0 if nth % 60 == 0 else 1e7 for nth in range(1, 400))]
    assert verdict(mini_batches(losses, 29)) == "diverges"


@pytest.mark.parametrize("zeros", [2, 3, 40])
def test_a_leap_with_many_right_samples_diverges(zeros: int) -> None:
    losses = [2.18, *(0.0 if nth % zeros == 0 else 1e7 for nth in range(1, 400))]
    assert verdict(mini_batches(losses, 40)) == "diverges"


@pytest.mark.parametrize(("first", "after", "end"), [(0.72, 90, 60), (2.3, 600, 150)])
def test_a_leap_that_falls_but_stays_above_its_start_rises(first: float, after: float, end: float) -> None:
    losses = [first, *(after + (end - after) * nth / 399 for nth in range(399))]
    assert verdict(mini_batches(losses, 40)) == "rises"


def test_noise_of_ten_steps_diverges_for_no_seed() -> None:
    assert not verdicts(lambda _, noise: noise.gauss(0, 1) ** 2, 10, 1)["diverges"]


@pytest.mark.parametrize("lucky", [1e-5, 1.8e-7])
def test_a_lucky_first_sample_changes_hardly_a_verdict(lucky: float) -> None:
    usual = verdicts(lambda _, noise: noise.gauss(0, 1) ** 2, 40, 5)
    with_luck = verdicts(lambda at, noise: noise.gauss(0, 1) ** 2 if at else lucky * bool(noise.gauss(0, 1)), 40, 5)
    assert sum((usual - with_luck).values()) <= 2  # the first loss counts in the first level, too
    assert not with_luck["diverges"]


@pytest.mark.parametrize("lucky", [1e-3, 1e-5])
def test_a_lucky_first_sample_is_no_start(lucky: float) -> None:
    level = verdicts(lambda at, noise: noise.gauss(0, 1) ** 2 if at else lucky, 1, 200)
    fall = verdicts(lambda at, noise: math.exp(-5 * at) * noise.gauss(0, 1) ** 2 if at else lucky, 40, 5)
    assert not level["diverges"]
    assert fall == {"falls": len(SEEDS)}


@pytest.mark.parametrize(("per_epoch", "epochs"), [(40, 5), (40, 1), (10, 10), (100, 4), (29, 10), (40, 50)])
def test_noise_around_a_level_is_flat_for_most_seeds(per_epoch: int, epochs: int) -> None:
    # A verdict on chance errs at a rate: with four or five levels, where a real fall must still be seen, once in
    # four or five; with more, once in ten.
    counted = verdicts(lambda _, noise: 1 + noise.gauss(0, 0.2), per_epoch, epochs)
    assert counted["flat"] >= (38 if epochs in (4, 5) else 42), counted


def test_noise_around_a_level_is_flat_however_long_it_is_watched() -> None:
    counted = verdicts(lambda _, noise: 1 + noise.gauss(0, 0.3), per_epoch=10, epochs=300)
    assert counted["flat"] >= 45, counted


def test_a_curve_that_bounces_without_a_trend_oscillates() -> None:
    # The squared error of one sample at a time: a verdict is on the curve, whatever makes it bounce.
    counted = verdicts(lambda _, noise: noise.gauss(0, 1) ** 2, per_epoch=10, epochs=10)
    assert counted["oscillates"] >= 45, counted


def test_noise_never_diverges() -> None:
    counted = verdicts(lambda _, noise: noise.gauss(0, 1) ** 2, per_epoch=3, epochs=3)
    assert not counted["diverges"], counted


@pytest.mark.parametrize(("per_epoch", "epochs"), [(40, 5), (40, 1), (10, 10), (4, 10), (40, 50)])
def test_a_noisy_fall_falls_for_every_seed(per_epoch: int, epochs: int) -> None:
    counted = verdicts(lambda at, noise: 2 - 1.5 * min(1, at / 0.4) + noise.gauss(0, 0.3), per_epoch, epochs)
    assert counted == {"falls": len(SEEDS)}


@pytest.mark.parametrize(("per_epoch", "epochs"), [(40, 5), (40, 1), (10, 10), (4, 10), (40, 50)])
def test_a_noisy_rise_rises_for_every_seed(per_epoch: int, epochs: int) -> None:
    counted = verdicts(lambda at, noise: 1 + 3 * at + noise.gauss(0, 0.4), per_epoch, epochs)
    assert counted == {"rises": len(SEEDS)}


def test_a_noisy_oscillation_oscillates_for_every_seed() -> None:
    counted = verdicts(lambda at, noise: 2 + math.sin(2 * math.pi * 5 * at) + noise.gauss(0, 0.2), 40, 40)
    assert counted == {"oscillates": len(SEEDS)}


def test_exponential_growth_in_mini_batches_always_diverges() -> None:
    counted = verdicts(lambda at, noise: math.exp(12 * at) * (1 + noise.random()), 10, 10)
    assert counted == {"diverges": len(SEEDS)}


@given(st.lists(st.floats(), min_size=1, max_size=60), st.integers(1, 12))
def test_no_losses_make_the_verdict_raise(losses: list[float], per_epoch: int) -> None:
    assert verdict(mini_batches(losses, per_epoch)) in get_args(Verdict)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30), st.integers(1, 12))
def test_no_losses_make_the_levels_raise(losses: list[float], per_epoch: int) -> None:
    levels = curves.levels(mini_batches(losses, per_epoch))
    assert 1 <= len(levels) <= len(losses)


def test_a_summary_has_steps_updates_and_single_losses() -> None:
    rows = [Row(0, 0, 0, 4.0), Row(1, 0, 0, 1.0), Row(2, 1, 0, 2.0), Row(3, 1, 0, 3.0)]
    assert summarise(rows)[:5] == (4, 2, 4.0, 3.0, 1.0)


def test_a_summary_of_no_rows_has_neither_losses_nor_a_verdict() -> None:
    assert summarise([]) == (0, 0, None, None, None, None)


def test_the_best_loss_is_the_lowest_finite_one() -> None:
    assert summarise(full_batch([3.0, 2.0, NAN, INF, -INF])).best_loss == 2.0


def test_the_best_of_nothing_finite_is_nan() -> None:
    best = summarise(full_batch([NAN, INF])).best_loss
    assert best is not None
    assert math.isnan(best)


def test_epoch_means_are_means_even_of_a_shorter_last_epoch() -> None:
    assert epoch_means(mini_batches([1.0, 2.0, 6.0, 5.0, 7.0], 3)) == [3.0, 6.0]


def test_a_last_epoch_below_half_counts_with_the_one_before() -> None:
    rows = mini_batches([1.0, 2.0, 3.0, 6.0, 2.0, 2.0, 2.0, 4.0, 10.0], 4)
    assert epoch_means(rows) == curves.levels(rows) == curve(rows, "epoch").y == [3.0, 4.0]
    assert natural_axis(rows[:5]) == "step"  # an epoch and a fragment are one


def test_a_mean_loss_is_over_the_items_and_not_over_the_batches() -> None:
    rows = [Row(0, 0, 0, 1.0, 30), Row(1, 0, 0, 5.0, 10), Row(2, 1, 1, 8.0, 1), Row(3, 1, 1, 2.0, 2)]
    assert epoch_means(rows) == curve(rows, "update").y == curves.levels(rows) == [2.0, 4.0]


def test_epoch_means_of_no_rows_are_none() -> None:
    assert epoch_means([]) == []


@pytest.mark.parametrize("odd", [NAN, INF, -INF])
def test_an_epoch_with_an_infinite_loss_has_no_finite_mean(odd: float) -> None:
    means = epoch_means(mini_batches([1.0, 3.0, 1.0, odd], 2))
    assert means[0] == 2.0
    assert not math.isfinite(means[1])


def test_an_epoch_of_huge_losses_has_the_mean_inf() -> None:
    assert epoch_means(mini_batches([1e308, 1e308, 1e308], 3)) == [INF]


def test_the_curve_on_steps_is_every_loss() -> None:
    rows = [Row(0, 0, 0, 3.0), Row(1, 0, 0, 2.0), Row(2, 1, 1, 1.0)]
    assert curve(rows, "step") == ("step", [0.0, 1.0, 2.0], [3.0, 2.0, 1.0])


def test_the_curve_on_updates_is_the_mean_of_each_window() -> None:
    rows = [Row(0, 0, 0, 3.0), Row(1, 0, 0, 2.0), Row(2, 1, 1, 1.0)]
    assert curve(rows, "update") == ("update", [0.0, 1.0], [2.5, 1.0])


def test_the_curve_on_epochs_counts_them_from_1() -> None:
    rows = [Row(0, 0, 0, 3.0), Row(1, 0, 0, 2.0), Row(2, 1, 1, 1.0)]
    assert curve(rows, "epoch") == ("epoch", [1.0, 2.0], [2.5, 1.0])


@pytest.mark.parametrize(("per_epoch", "steps", "axis"), [(5, 20, "epoch"), (1, 20, "step"), (20, 20, "step")])
def test_several_epochs_of_several_batches_are_drawn_by_epoch(per_epoch: int, steps: int, axis: str) -> None:
    assert natural_axis(mini_batches([1.0] * steps, per_epoch)) == axis


def test_the_natural_axis_of_no_rows_is_steps() -> None:
    assert natural_axis([]) == "step"


def test_a_band_is_median_and_range_at_each_x() -> None:
    made = band([Curve("step", [0.0, 1.0], [y, y + 1]) for y in (5.0, 1.0, 2.0)])
    assert made == ([0.0, 1.0], [2.0, 3.0], [1.0, 2.0], [5.0, 6.0])


@pytest.mark.parametrize("odd", [NAN, INF, -INF])
def test_in_a_band_what_is_not_finite_counts_as_the_worst(odd: float) -> None:
    made = band([Curve("step", [0.0], [y]) for y in (1.0, odd, 2.0)])
    assert made == ([0.0], [2.0], [1.0], [INF])


def test_a_band_goes_on_over_the_curves_that_are_longest() -> None:
    made = band([Curve("step", [0.0], [1.0]), Curve("step", [0.0, 1.0], [3.0, 4.0])])
    assert made == ([0.0, 1.0], [2.0, 4.0], [1.0, 4.0], [3.0, 4.0])


def test_a_band_compares_values_at_the_same_x() -> None:
    made = band([Curve("step", [0.0, 2.0], [1.0, 5.0]), Curve("step", [1.0, 2.0], [2.0, 9.0])])
    assert made == ([0.0, 1.0, 2.0], [1.0, 2.0, 7.0], [1.0, 2.0, 5.0], [1.0, 2.0, 9.0])


@given(st.lists(st.lists(st.floats(), max_size=12), min_size=1, max_size=6))
def test_a_band_of_any_losses_has_its_median_in_its_range(runs: list[list[float]]) -> None:
    made = band([curve(full_batch(losses), "step") for losses in runs])
    assert len(made.x) == len(made.median) == max(map(len, runs))
    assert all(low <= middle <= high for low, middle, high in zip(made.low, made.median, made.high, strict=True))


@given(
    st.lists(st.floats(), min_size=1, max_size=40), st.integers(1, 12), st.sampled_from(["step", "update", "epoch"])
)
def test_x_grows_along_every_curve(losses: list[float], per_epoch: int, axis: curves.Axis) -> None:
    made = curve(mini_batches(losses, per_epoch), axis)
    assert len(made.x) == len(made.y)
    assert all(before < after for before, after in pairwise(made.x))


@pytest.mark.parametrize(
    "means",
    [[0.99, 0.64], [1.55, 1.24, 1.1], [2.0, 0.66, 0.62, 0.63], [1.1, 0.9, 0.89, 0.9, 0.89], [9.0, 1.0, 0.9, 0.9]],
)
def test_a_fast_fall_in_few_noisy_epochs_falls(means: list[float]) -> None:
    noise = Random(3)  # noqa: S311 - chance, not a secret
    losses = []
    for mean in means:
        batches = [noise.gauss(0, 1) ** 2 for _ in range(40)]
        losses += [batch * mean / (sum(batches) / 40) for batch in batches]
    assert verdict(mini_batches(losses, 40)) == "falls"


def test_batches_in_the_same_order_each_epoch_are_no_oscillation() -> None:
    assert verdict(mini_batches([1.0, 5.0, 2.0, 8.0, 0.9, 4.5, 1.8, 7.2, 0.8, 4.0, 1.6, 6.4], 4)) == "falls"


@pytest.mark.parametrize("per_epoch", [1000, 10])
def test_the_last_losses_count_without_a_full_block_or_epoch(per_epoch: int) -> None:
    assert verdict(mini_batches([1.0] * 72 + [1e6] * 7, per_epoch)) == "diverges"
    assert verdict(mini_batches([1.0] * 70 + [1e9] * 4, per_epoch)) == "diverges"


# Column by column


@given(
    st.lists(st.floats(-1e3, 1e3) | st.sampled_from([NAN, INF, 1e200]), max_size=60),
    st.integers(1, 20),
    st.integers(1, 3),
    st.booleans(),
)
def test_losses_without_rows_are_summarised_as_the_rows_are(
    values: list[float], per_epoch: int, every: int, weighted: bool
) -> None:
    items = [1.0 + nth % 3 * weighted for nth in range(len(values))]
    rows = [Row(nth, nth // every, nth // per_epoch, loss, items[nth]) for nth, loss in enumerate(values)]
    ends = [*range(per_epoch, len(values), per_epoch), *([len(values)] if values else [])]
    updates = -(-len(values) // every)
    found = curves.summarise_losses(curves.Losses(values, ends, items if weighted else None), updates)
    assert repr(found) == repr(summarise(rows))  # nan is nan


def test_epochs_end_where_the_number_of_the_epoch_changes() -> None:
    assert curves.ends_of([0, 0, 1, 1, 1, 2]) == [2, 5, 6]
    assert curves.ends_of([4]) == [1]
    assert curves.ends_of([]) == []
