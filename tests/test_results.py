"""Results: what a run's folder tells, and expectations held against it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gradlab.analysis.results import Checked, ExperimentResult, Result, check_expectations, result_of
from gradlab.experiment import Expected
from gradlab.rows import Row
from gradlab.store import RunFolder, RunRecord

RECORD = RunRecord(
    experiment="line", mode="zero_grad", seed=1, identity="abc", settings={}, status="done", seconds=2.5, rows=4
)
# Two epochs of two batches: means 3 and 1.25; it falls from 4 to 1.
ROWS = [Row(0, 0, 0, 4.0), Row(1, 1, 0, 2.0), Row(2, 2, 1, 1.5), Row(3, 3, 1, 1.0)]


def result(rows: list[Row] = ROWS, mode: str = "zero_grad", seed: int = 1, status: str = "done") -> Result:
    folder = RunFolder(Path(f"{mode}-{seed}"))
    folder.path.mkdir()
    folder.write(RunRecord(**{**vars(RECORD), "mode": mode, "seed": seed, "status": status}))
    with folder.log() as log:
        for row in rows:
            log.append(row)
    return result_of(folder, cached=False)


def held(claims: dict[str, Any], rows: list[Row] = ROWS) -> list[Checked]:
    return list(check_expectations({"zero_grad": Expected.model_validate(claims)}, [result(rows)]))


def test_a_result_tells_what_the_record_and_the_rows_say() -> None:
    made = result()
    assert made == Result(
        mode="zero_grad", seed=1, status="done", verdict="falls", steps=4, updates=4, first_loss=4.0, last_loss=1.0,
        best_loss=1.0, seconds=2.5, cached=False, folder=Path("zero_grad-1"), rows=ROWS, error="",
    )  # fmt: skip


def test_the_result_of_a_run_without_rows_has_no_losses() -> None:
    made = result(rows=[], status="interrupted")
    found = (made.status, made.steps, made.verdict, made.first_loss, made.best_loss)
    assert found == ("interrupted", 0, None, None, None)


# The key, a value that holds of ROWS, and one that does not.
KEYS: list[tuple[str, Any, Any]] = [
    ("verdict", "falls", "rises"),
    ("steps", 4, 5),
    ("updates", 4, 2),
    ("first_loss_below", 4.5, 4.0),
    ("first_loss_above", 3.5, 4.0),
    ("last_loss_below", 1.5, 1.0),
    ("last_loss_above", 0.5, 1.0),
    ("best_loss_below", 1.5, 1.0),
    ("best_loss_above", 0.5, 1.0),
    ("epoch_losses", [3.0, 1.25], [3.0, 1.35]),
]


@pytest.mark.parametrize(("key", "value"), [(key, good) for key, good, _ in KEYS])
def test_an_expectation_that_holds_is_ok(key: str, value: Any) -> None:
    (found,) = held({key: value})
    assert (found.mode, found.seed, found.key, found.expected, found.ok) == ("zero_grad", 1, key, value, True)


@pytest.mark.parametrize(("key", "value"), [(key, bad) for key, _, bad in KEYS])
def test_an_expectation_that_does_not_hold_is_not_ok(key: str, value: Any) -> None:
    (found,) = held({key: value})
    assert (found.key, found.expected, found.ok) == (key, value, False)


def test_every_key_of_an_expectation_is_in_the_table() -> None:
    assert [key for key, _, _ in KEYS] == list(Expected.model_fields)


def test_several_expectations_are_held_one_by_one() -> None:
    assert [found.ok for found in held({"verdict": "falls", "steps": 5, "updates": 4})] == [True, False, True]


@pytest.mark.parametrize("value", [[3.0], [3.0, 1.2], [3.01]])
def test_epoch_losses_are_compared_to_the_decimals_written(value: list[float]) -> None:
    rows = [Row(0, 0, 0, 3.006), Row(1, 1, 1, 1.2004)]
    (found,) = held({"epoch_losses": value}, rows)
    assert found.ok


@pytest.mark.parametrize("value", [[3.1], [3.0, 1.3], [3.02], [3.0, 1.201]])
def test_epoch_losses_that_differ_in_the_last_decimal_fail(value: list[float]) -> None:
    (found,) = held({"epoch_losses": value}, [Row(0, 0, 0, 3.006), Row(1, 1, 1, 1.2004)])
    assert not found.ok


def test_no_epoch_losses_are_nothing_to_expect() -> None:
    with pytest.raises(ValidationError):
        Expected(epoch_losses=[])


def test_a_tiny_epoch_loss_is_compared_to_its_own_decimals() -> None:
    (found,) = held({"epoch_losses": [0.00001]}, [Row(0, 0, 0, 0.4)])
    assert not found.ok


def test_more_epoch_losses_than_there_are_epochs_do_not_hold() -> None:
    (found,) = held({"epoch_losses": [3.0, 1.25, 1.0]})
    assert not found.ok


@pytest.mark.parametrize("key", ["last_loss_below", "last_loss_above"])
def test_a_loss_that_is_nan_is_neither_below_nor_above(key: str) -> None:
    (found,) = held({key: 1.0}, [Row(0, 0, 0, math.nan)])
    assert not found.ok


@pytest.mark.parametrize(("key", "value"), [(key, good) for key, good, _ in KEYS])
def test_no_expectation_holds_of_a_run_without_rows(key: str, value: Any) -> None:
    (found,) = held({key: value}, [])
    assert not found.ok


def test_an_expectation_is_checked_for_each_seed_of_its_mode() -> None:
    results = [result(seed=1), result(seed=2), result(mode="halve_grad")]
    found = list(check_expectations({"zero_grad": Expected(steps=4)}, results))
    assert [(each.mode, each.seed) for each in found] == [("zero_grad", 1), ("zero_grad", 2)]


def test_without_expectations_nothing_is_held() -> None:
    assert list(check_expectations({}, [result()])) == []


@pytest.mark.parametrize(
    ("status", "holds", "ok"), [("done", True, True), ("done", False, False), ("failed", True, False)]
)
def test_a_result_is_ok_when_all_is_done_and_expectations_hold(status: str, holds: bool, ok: bool) -> None:
    expectation = Checked("zero_grad", 1, "steps", 4, 4, holds)
    made = ExperimentResult("line", "", Path(), [result(), result(seed=2, status=status)], [expectation])
    assert made.ok is ok
