"""Quantities: what runs logged, by name, and their values in rows."""

from __future__ import annotations

import math

import pytest

from gradlab.analysis.quantities import LoggedRun, choose_quantity, runs_without
from gradlab.errors import PlotError
from gradlab.rows import Evaluation, Geometry, Row
from gradlab.store import RunRecord

# Two epochs of two steps, evaluated at the end of each
ROWS = [Row(0, 0, 0, 4.0), Row(1, 1, 0, 3.0), Row(2, 2, 1, 2.0), Row(3, 3, 1, 1.0)]
EVALUATIONS = [Evaluation(2, 2, 1, {"validation_loss": 5.0, "accuracy": 0.5}), Evaluation(4, 4, 2, {"accuracy": 0.75})]


def logged(mode: str = "zero_grad", rows: list[Row] = ROWS, evaluations: list[Evaluation] = EVALUATIONS) -> LoggedRun:
    record = RunRecord(experiment="line", mode=mode, seed=3, identity="abc", settings={}, status="done")
    return LoggedRun(record, rows, evaluations)


def test_a_run_logged_its_loss_and_the_values_of_evaluations() -> None:
    assert logged().quantities == ["loss", "validation_loss", "accuracy"]
    assert logged(evaluations=[]).quantities == ["loss"]
    assert logged(rows=[], evaluations=[]).quantities == []


def test_the_geometry_of_rows_is_logged_at_updates_only() -> None:
    measured = Geometry(3.0, 4.0, -0.5, 0.25)
    run = logged(rows=[Row(0, 0, 0, 4.0), Row(1, 0, 0, 3.0, 2, measured)], evaluations=[])
    assert run.quantities == ["loss", "fresh_norm", "gradient_norm", "cosine", "update_norm"]
    assert [run.values_of(name) for name in run.quantities[1:]] == [[Row(1, 0, 0, value)] for value in measured]


def test_a_cosine_with_a_zero_is_left_out() -> None:
    zero, infinite = Geometry(0.0, 4.0, math.nan, 0.25), Geometry(3.0, math.inf, math.nan, 0.25)
    run = logged(rows=[Row(0, 0, 0, 4.0, 1, zero), Row(1, 1, 0, 3.0, 1, infinite)])
    assert [row.step for row in run.values_of("cosine")] == [1]
    assert [row.loss for row in run.values_of("fresh_norm")] == [0.0, 3.0]


def test_values_of_the_loss_are_the_rows() -> None:
    assert logged().values_of("loss") is ROWS


def test_an_evaluation_belongs_to_the_epoch_before_it() -> None:
    assert logged().values_of("accuracy") == [Row(2, 2, 0, 0.5), Row(4, 4, 1, 0.75)]


def test_an_evaluation_within_an_epoch_belongs_to_that_epoch() -> None:
    within = [Evaluation(1, 1, 0, {"accuracy": 0.5}), Evaluation(3, 3, 1, {"accuracy": 0.75})]
    assert logged(evaluations=within).values_of("accuracy") == [Row(1, 1, 0, 0.5), Row(3, 3, 1, 0.75)]


def test_an_evaluation_without_its_rows_counts_from_its_epoch() -> None:
    assert [row.epoch for row in logged(rows=[]).values_of("accuracy")] == [0, 1]


def test_only_evaluations_with_the_value_are_returned() -> None:
    assert logged().values_of("validation_loss") == [Row(2, 2, 0, 5.0)]
    assert logged().values_of("cosine") == []


@pytest.mark.parametrize("name", ["validation_loss", "validation-loss", " validation_loss"])
def test_a_quantity_is_found_with_dashes_too(name: str) -> None:
    assert choose_quantity([logged(evaluations=[]), logged()], name) == "validation_loss"


def test_an_unknown_quantity_is_an_error_that_lists_those_logged() -> None:
    message = r"did not log 'acuracy'; did you mean 'accuracy'\? Logged: loss, validation_loss, accuracy$"
    with pytest.raises(PlotError, match=message):
        choose_quantity([logged()], "acuracy")


def test_any_quantity_is_accepted_while_nothing_is_logged() -> None:
    assert choose_quantity([logged(rows=[], evaluations=[])], "accuracy") == "accuracy"


def test_runs_that_lack_the_quantity_are_named() -> None:
    runs = [logged(), logged("halve_grad", evaluations=[]), logged("decay:0.9", rows=[], evaluations=[])]
    assert runs_without(runs, "accuracy") == ["halve_grad seed 3"]
    assert runs_without(runs, "loss") == []
