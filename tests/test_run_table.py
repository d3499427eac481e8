"""The table of runs: columns that fit, sparklines, the mean loss of each epoch in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gradlab.analysis import curves
from gradlab.analysis.intervals import t975
from gradlab.analysis.results import Checked
from gradlab.rows import Evaluation
from gradlab.terminal.fitted_table import number_text
from gradlab.terminal.run_table import epoch_lines, expectation_lines, run_table, sparkline
from tests.making import result
from tests.screen import MODES, WIDTHS, shown

if TYPE_CHECKING:
    from gradlab.analysis.results import Result

# The table of a run


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_table_fits_the_width_and_has_every_mode(width: int, seeds: int) -> None:
    curve = {"falls": [4.0, 4.0, 2.0, 2.0, 1.0, 1.0], "diverges": [1.0, 1e6, 1e9, math.nan, math.nan, math.inf]}
    results = [
        result(curve["diverges" if nth % 2 else "falls"], mode, seed)
        for nth, mode in enumerate(MODES)
        for seed in range(seeds)
    ]
    lines = shown(run_table(results, width), width)
    assert max(map(cell_len, lines)) <= width
    text = "".join(lines).replace(" ", "")
    assert all(mode in text or mode[:9] in text for mode in MODES)
    assert (text.count("falls"), text.count("diverges")) == (4, 3)


@pytest.mark.parametrize("width", WIDTHS)
def test_differing_verdicts_are_counted_and_fit_the_width(width: int) -> None:
    all_kinds = [[2.0, 1.0], [1.0, 2.0], [1.0, math.nan], [1.0, 1.0], [5.0, 1.0, 5.0, 1.0]]
    results = [result(losses, "accumulate:4", seed, per_epoch=1) for seed, losses in enumerate(all_kinds)]
    lines = shown(run_table(results, width), width)
    assert max(map(cell_len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for verdict in ("falls 1", "rises 1", "diverges 1", "flat 1", "oscillates 1"):
        assert verdict in text


def test_the_run_table_one_seed_has_four_losses() -> None:
    run = result([4.0, 2.0, 0.25, 1.5])
    lines = shown(run_table([run], 120), 120)
    assert lines[0].split() == ["mode", "first", "last", "best", "last", "epoch", "curve", "verdict"]
    assert lines[1].split() == [
        "zero_grad",
        "4",
        "1.5",
        "0.25",
        "0.875",
        sparkline(curves.levels(run.rows), 16),
        run.verdict,
    ]


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (80, "mode first last last epoch − zero_grad curve verdict"),
        (60, "mode last epoch − zero_grad verdict"),
        (40, "mode last epoch verdict"),
    ],
)
def test_a_narrow_run_table_mini_batches_keeps_the_last_epoch(width: int, columns: str) -> None:
    modes = ["zero_grad", "no_zero_grad", "halve_grad", "accumulate:4"]
    losses = [1234.0, 0.001, 1.23e-9, 0.01234] * 8
    results = [result([loss + seed for loss in losses], mode, seed) for mode in modes for seed in range(3)]
    assert " ".join(shown(run_table(results, width), width)[1].split()) == columns


def test_a_narrow_run_table_full_batches_keeps_the_last_loss() -> None:
    results = [result([1234.5, 0.001234], mode, per_epoch=1) for mode in ("zero_grad", "no_zero_grad")]
    assert shown(run_table(results, 36), 36)[0].split() == ["mode", "last", "verdict"]


def test_a_fragment_of_an_epoch_is_not_the_last_epoch() -> None:
    run = result([1.0, 2.0, 3.0, 6.0, 2.0, 2.0, 2.0, 4.0, 10.0], per_epoch=4)
    assert shown(run_table([run], 120), 120)[1].split()[4:6] == ["4", "▁█"]


def test_full_batches_have_no_last_epoch_column() -> None:
    assert "epoch" not in shown(run_table([result([4.0, 2.0], per_epoch=1)], 120), 120)[0]


def test_the_run_table_several_seeds_has_medians() -> None:
    results = [result([first, last], seed=nth) for nth, (first, last) in enumerate([(9, 3), (7, 1), (8, 2)])]
    lines = shown(run_table(results, 120), 120)
    assert lines[0] == "loss, median of 3 seeds"
    assert lines[2].split()[:3] == ["zero_grad", "8", "2"]


def test_in_a_median_a_loss_that_is_nan_counts_as_the_worst() -> None:
    results = [result([1.0, last], seed=nth) for nth, last in enumerate([math.nan, 2.0, 1.0])]
    assert shown(run_table(results, 120), 120)[2].split()[2] == "2"


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_run_that_is_not_done_shows_its_status_for_a_verdict(status: str) -> None:
    assert shown(run_table([result([2.0, 1.0], status=status)], 80))[1].split()[-1] == status


def test_a_run_without_rows_is_a_line_of_the_table() -> None:
    assert shown(run_table([result([], status="failed")], 80))[1].split() == ["zero_grad", "failed"]


def test_a_verdict_is_coloured_on_a_terminal_only() -> None:
    table = run_table([result([1.0, math.nan])], 80)
    assert "\x1b[1;31mdiverges" in "".join(shown(table, colour=True))
    assert "\x1b" not in "".join(shown(table))


# Sparklines


def test_a_sparkline_goes_from_low_to_high() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"


def test_a_sparkline_has_a_cross_where_the_loss_is_not_finite() -> None:
    assert sparkline([1.0, 2.0, math.nan, math.inf, -math.inf], 8) == "▁█×××"


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [0.0], [-2.0, -2.0]])
def test_a_sparkline_of_a_constant_is_low(values: list[float]) -> None:
    assert sparkline(values, 8) == "▁" * len(values)


def test_a_sparkline_of_nothing_is_empty() -> None:
    assert sparkline([], 8) == ""


@given(st.lists(st.floats(), max_size=60), st.integers(1, 20))
def test_no_values_make_a_sparkline_raise_or_too_wide(values: list[float], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) == min(width, len(values))
    assert set(line) <= set("▁▂▃▄▅▆▇█×")


@given(st.floats(5e-324, 1e-322), st.floats(0, 1e-322))
def test_a_sparkline_of_the_smallest_numbers_does_not_raise(high: float, low: float) -> None:
    assert len(sparkline([high, low], 8)) == 2


@given(st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=16).filter(lambda each: max(each) / 2 > min(each) / 2))
def test_a_sparkline_spans_from_lowest_to_highest_block(values: list[float]) -> None:
    line = sparkline(values, 16)
    assert line[values.index(max(values))] == "█"
    assert line[values.index(min(values))] == "▁"


# Words


def test_epoch_lines_have_the_mean_loss_of_each_epoch() -> None:
    results = [result([1.0, 2.0, 0.5, 0.5]), result([1.0, 2.0, 9.94, 9.96], "no_zero_grad")]
    assert epoch_lines(results) == [
        "zero_grad:",
        "model training loss is 1.5",
        "model training loss is 0.5",
        "",
        "no_zero_grad:",
        "model training loss is 1.5",
        "model training loss is 9.9",
        "",
    ]


def test_an_epoch_line_of_a_loss_that_is_not_finite_says_so() -> None:
    assert epoch_lines([result([1.0, 2.0, math.nan, 1.0])])[2] == "model training loss is nan"


@pytest.mark.parametrize("epochs", [1, 11])
def test_there_are_no_epoch_lines_for_one_epoch_or_for_too_many(epochs: int) -> None:
    assert epoch_lines([result([1.0] * 2 * epochs)]) == []


def test_there_are_no_epoch_lines_for_several_seeds() -> None:
    assert epoch_lines([result([1.0] * 4, seed=1), result([1.0] * 4, seed=2)]) == []


@pytest.mark.parametrize(
    ("loss", "text"),
    [(None, ""), (1.0, "1"), (0.123456, "0.1235"), (123456.0, "1.235e+05"), (math.nan, "nan"), (-math.inf, "-inf")],
)
def test_a_loss_has_four_significant_digits(loss: float | None, text: str) -> None:
    assert number_text(loss) == text


def test_expectations_that_hold_are_counted() -> None:
    held = [Checked("zero_grad", 1, "steps", 4, 4, ok=True)] * 2
    assert [line.plain for line in expectation_lines(held)] == ["2 of 2 expectations met"]


def test_a_failed_expectation_names_what_was_expected_and_got() -> None:
    checked = [Checked("zero_grad", 1, "steps", 4, 4, ok=True), Checked("halve_grad", 2, "steps", 4, 5, ok=False)]
    assert [line.plain for line in expectation_lines(checked)] == ["expected halve_grad seed 2: steps = 4, got 5"]


@pytest.mark.parametrize(
    ("mean", "spread", "cell"),
    [(-1.54, 1.52, "-1.54±1.52*"), (-1.5004, 1.5001, "-1.5004±1.5001*"), (1.54, 1.52, "+1.54±1.52*"),
     (-1.52, 1.54, "-1.5±1.5"), (-0.71, 0.04, "-0.71±0.04*")],
)  # fmt: skip
def test_a_difference_has_the_digits_that_show_its_sign(mean: float, spread: float, cell: str) -> None:
    half = spread / t975(1)  # two differences, mean − half and mean + half, have the interval mean ± spread
    pairs = [result([1.0, 1.0], seed=seed) for seed in (1, 2)]
    apart = [result([1 + mean + sign * half] * 2, "halve_grad", seed) for seed, sign in ((1, -1), (2, 1))]
    assert cell in " ".join(shown(run_table([*pairs, *apart], 120), 120)).split()


def test_pairs_and_seeds_are_counted_for_each_mode() -> None:
    runs = [result([1.0, 1.0], seed=seed) for seed in range(6)]
    others = [result([2.0, 2.0 + seed], "halve_grad", seed) for seed in range(2)]
    lines = " ".join(shown(run_table([*runs, *others], 120), 120))
    assert "median of 2 to 6 seeds" in lines
    assert "paired by seed (n=2)" in lines


# Evaluations


def evaluated(mode: str, seed: int, **values: float) -> Result:
    """Return a run with two evaluations; only the last one counts."""
    first = Evaluation(1, 1, 0, dict.fromkeys(values, -9.0))
    return result([2.0, 1.0], mode, seed)._replace(evaluations=(first, Evaluation(2, 2, 1, values)))


@pytest.mark.parametrize("evaluated_mode", ["zero_grad", "halve_grad"])
def test_a_mode_without_evaluations_has_empty_cells(evaluated_mode: str) -> None:
    runs = [result([2.0, 1.0], mode) for mode in ("zero_grad", "halve_grad")]
    last = Evaluation(2, 2, 1, {"validation_loss": 0.375, "accuracy": 0.625})
    results = [run._replace(evaluations=(last,)) if run.mode == evaluated_mode else run for run in runs]
    lines = {line.split()[0]: line for line in shown(run_table(results, 120), 120)[1:]}
    evaluated = {mode: ("0.375" in line, "0.625" in line) for mode, line in lines.items()}
    assert evaluated == {mode: (mode == evaluated_mode,) * 2 for mode in ("zero_grad", "halve_grad")}


@pytest.mark.parametrize(
    ("name", "values", "median"),
    [
        ("accuracy", [math.nan, math.nan], "nan"),
        ("accuracy", [math.nan, 0.25], "nan"),
        ("accuracy", [math.nan, 0.25, 0.75], "0.25"),
        ("error", [math.nan, 0.25, 0.75], "0.75"),
        ("error", [math.nan, math.inf], "inf"),
    ],
)
def test_nan_is_the_worst_value_of_seeds_and_stays_nan(name: str, values: list[float], median: str) -> None:
    results = [
        result([2.0, 1.0], seed=nth)._replace(evaluations=(Evaluation(2, 2, 1, {name: value}),))
        for nth, value in enumerate(values)
    ]
    head, line = shown(run_table(results, 120), 120)[1:3]
    assert line.split()[head.replace("last epoch", "last-epoch").split().index(name)] == median


def test_values_of_the_last_evaluation_are_columns() -> None:
    lines = shown(run_table([evaluated("zero_grad", 1, validation_loss=0.25, accuracy=0.875)], 120), 120)
    assert lines[0].split()[-4:] == ["validation", "accuracy", "curve", "verdict"]
    assert lines[1].split()[-4:] == ["0.25", "0.875", "█▁", "falls"]


def test_values_are_medians_over_seeds() -> None:
    runs = [evaluated("zero_grad", seed, accuracy=value) for seed, value in enumerate([0.1, 0.5, 0.9])]
    text = " ".join(shown(run_table(runs, 120), 120))
    assert "median of 3 seeds" in text
    assert " 0.5 " in text


def test_differences_of_values_are_paired_by_seed() -> None:
    runs = [evaluated("zero_grad", seed, validation_loss=seed, accuracy=0.5) for seed in (1, 2, 3)]
    spread = 0.2 / math.sqrt(3) * t975(2)  # the standard deviation of 0.4, 0.6 and 0.8 is 0.2
    runs += [
        evaluated("halve_grad", seed, validation_loss=seed + 0.6 + 0.2 * nth, accuracy=0.25)
        for seed, nth in ((1, -1), (2, 0), (3, 1))
    ]
    table = run_table(runs, 160)
    lines = shown(table, 160)
    assert f"+0.6±{spread:.2g}*" in " ".join(lines)
    assert "-0.25±0*" in " ".join(lines)
    caption = " ".join(" ".join(lines[-2:]).split())
    assert "last-epoch loss, validation loss and accuracy minus zero_grad's, paired by seed (n=3)" in caption


@pytest.mark.parametrize(("name", "better"), [("validation_loss", -1), ("test_error", -1), ("accuracy", 1)])
def test_a_better_value_is_green_and_a_worse_one_red(name: str, better: int) -> None:
    for sign, colour in ((better, "green"), (-better, "red")):
        runs = [evaluated("zero_grad", seed, **{name: 0.5}) for seed in (1, 2)]
        runs += [evaluated("halve_grad", seed, **{name: 0.5 + sign * 0.25}) for seed in (1, 2)]
        (cell,) = [
            each for column in run_table(runs, 160).columns for each in column.cells if f"{sign * 0.25:+}" in str(each)
        ]
        assert cell.style == colour  # type: ignore[union-attr]  # a Text


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_table_with_values_fits_the_width(width: int, seeds: int) -> None:
    runs = [
        evaluated(mode, seed, validation_loss=0.123456, accuracy=0.5, a_metric_with_a_long_name=7.0)
        for mode in MODES[:4]
        for seed in range(seeds)
    ]
    lines = shown(run_table(runs, width), width)
    assert max(map(cell_len, lines)) <= width
    assert "validation" in " ".join(lines) or width < 80


def test_the_training_set_loss_is_shown_where_it_fits() -> None:
    run = result([2.0, 1.0])._replace(training_set_loss=0.75)
    assert "training set" in shown(run_table([run], 120), 120)[0]
    assert shown(run_table([run], 120), 120)[1].split()[5] == "0.75"
    narrow = shown(run_table([run], 60), 60)[0]
    assert narrow.split() == ["mode", "first", "last", "best", "last", "epoch", "curve", "verdict"]


def test_a_failed_inequality_is_told_with_its_sign() -> None:
    failed = [Checked("zero_grad", 1, "accuracy", "> 0.9", 0.5, ok=False)]
    assert [line.plain for line in expectation_lines(failed)] == ["expected zero_grad seed 1: accuracy > 0.9, got 0.5"]


def test_without_expectations_there_are_no_lines() -> None:
    assert expectation_lines([]) == []
