"""The colour of a sweep's figure: the default, a chosen column, and what is reported about missing values."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from matplotlib.text import Text
from typer.testing import CliRunner

from gradlab.cli import app
from gradlab.errors import PlotError
from gradlab.plotting import DEFAULT_COLOR, color_of, draw_phases, panels_of_sweep
from gradlab.store import Block, Results, SweepFolder, SweepRecord

if TYPE_CHECKING:
    from collections.abc import Sequence


RECORD = SweepRecord(
    "line", "abc", {}, [{"key": "lr", "values": [0.1, 0.2, 0.4]}, {"key": "keep", "values": [0.0, 0.5]}], [], [0], 6,
    "loop", 6, "done", done=6, sharpness={},
)  # fmt: skip
LOSSES: list[float | None] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
VALIDATED: dict[str, Any] = {
    "training_set_loss": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
    "last_accuracy": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
    "best_accuracy": [0.91, 0.81, 0.71, 0.61, 0.51, 0.41],
}


def results(*, status: Sequence[str] = ("done",) * 6, **measured: Any) -> Results:
    block = Block("loop", list(range(6)), list(status), ["falls"] * 6, [8] * 6, LOSSES, LOSSES, LOSSES, [""] * 6,
                  measured=measured)  # fmt: skip
    return Results([block], [])


def written(found: Results) -> str:
    """Write a sweep with these results and return its folder."""
    folder = SweepFolder(Path("runs/line/sweep-abc"))
    folder.make()
    folder.write(RECORD)
    with folder.log() as log:
        log.append(found.blocks[0])
    return str(folder.path)


def gives(*words: str, exit_status: int = 0) -> Any:
    answer = CliRunner().invoke(app, list(words))
    assert answer.exit_code == exit_status, answer.output
    return answer


def panel(found: Results, wanted: str | None) -> Any:
    (only,) = panels_of_sweep(RECORD, found, color_of([found], wanted).column)
    return only


def test_the_default_is_the_training_set_loss_of_all_runs() -> None:
    assert color_of([results(**VALIDATED)] * 2) == ("training_set_loss", "")
    assert panel(results(**VALIDATED), None).loss == [[0.1, 0.3, 0.5], [0.2, 0.4, 0.6]]


def test_results_without_it_are_coloured_by_the_last_loss() -> None:
    column, notice = color_of([results()])
    assert column == "last_loss"
    assert notice == (
        "Coloured by last_loss, because the results have no training_set_loss. `gradlab sweep --fresh` adds it."
    )
    assert color_of([results(**VALIDATED), results()]).notice.startswith("Coloured by last_loss, because 6 of 12 runs")


def test_a_failed_run_needs_no_value() -> None:
    status = ["done", "failed", *["done"] * 4]
    assert color_of([results(status=status, training_set_loss=[0.1, None, 0.3, 0.4, 0.5, 0.6])]).notice == ""


@pytest.mark.parametrize(
    ("wanted", "column"),
    [
        ("last_loss", "last_loss"),
        ("loss", "last_loss"),
        ("best-loss", "best_loss"),
        ("accuracy", "last_accuracy"),
        ("best_accuracy", "best_accuracy"),
        ("training_set_loss", "training_set_loss"),
    ],
)
def test_a_name_with_last_and_best_means_the_last(wanted: str, column: str) -> None:
    assert color_of([results(**VALIDATED)], wanted) == (column, "")


def test_an_unknown_color_names_the_nearest_and_all() -> None:
    with pytest.raises(PlotError) as raised:
        color_of([results(**VALIDATED)], "acuracy")
    assert str(raised.value) == (
        "unknown color 'acuracy'; did you mean 'last_accuracy'? "
        "Known: training_set_loss, last_accuracy, best_accuracy, last_loss, best_loss, first_loss"
    )
    with pytest.raises(PlotError, match="unknown color 'accuracy'"):
        color_of([results(**VALIDATED), results()], "accuracy")


def test_runs_without_the_chosen_value_are_counted() -> None:
    found = results(training_set_loss=[0.1, None, None, 0.4, math.inf, 0.6])
    assert color_of([found], "training_set_loss").notice == "2 of 6 runs have no training_set_loss and are not drawn."
    assert panel(found, "training_set_loss").loss == [[0.1, None, math.inf], [None, 0.4, 0.6]]


@pytest.mark.parametrize("axes", [2, 1])
def test_the_figure_names_its_colour(axes: int) -> None:
    record = RECORD if axes == 2 else SweepRecord(
        "line", "abc", {}, [{"key": "lr", "values": [1, 2, 3]}], ["zero_grad", "halve_grad"], [0], 6, "loop", 6, "done"
    )  # fmt: skip
    for wanted, words in (("accuracy", "last accuracy"), (None, "training set loss")):
        found = results(**VALIDATED)
        figure = draw_phases(panels_of_sweep(record, found, color_of([found], wanted).column))
        assert words in {text.get_text() for text in figure.findobj(Text)}


def test_nan_is_the_worst_value_of_a_metric_and_stays_nan() -> None:
    found = results(last_accuracy=[math.nan, 0.2, 0.4, 0.6, 0.8, 1.0], last_error=[math.nan] * 6).ranges()
    assert found["last_accuracy"] == pytest.approx({"lowest": math.nan, "median": 0.4, "highest": 1.0}, nan_ok=True)
    assert all(map(math.isnan, found["last_error"].values()))


def test_nan_of_a_run_that_did_not_diverge_is_not_drawn() -> None:
    found = results(last_m=[math.nan, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert color_of([found], "m").notice == "1 of 6 runs have no last_m and are not drawn."
    assert panel(found, "m").loss == [[None, 3.0, 5.0], [2.0, 4.0, 6.0]]
    found.blocks[0].verdict[0] = "diverges"
    assert color_of([found], "m").notice == ""
    assert panel(found, "m").loss == [[math.inf, 3.0, 5.0], [2.0, 4.0, 6.0]]


def test_a_color_that_is_nan_in_all_runs_is_refused() -> None:
    with pytest.raises(PlotError, match="Nothing to draw: last_m is nan or missing in 6 runs"):
        color_of([results(last_m=[math.nan] * 6)], "m")


def test_the_default_file_is_named_after_a_chosen_color(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = written(results(**VALIDATED))
    for chosen in ([], ["--color", "accuracy"], ["--color", "best_accuracy"], ["--color", DEFAULT_COLOR]):
        gives("plot", folder, *chosen)
    pictures = {file.name for file in Path(folder).glob("*.png")}
    assert pictures == {"phase.png", "phase-last_accuracy.png", "phase-best_accuracy.png"}


def test_plot_takes_a_color_and_reports_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = written(results())
    assert "Coloured by last_loss" in gives("plot", folder).stderr
    assert "Coloured" not in gives("plot", folder, "--color", "last_loss").stderr
    assert gives("plot", folder, "--quiet").stderr == ""
    answer = gives("plot", folder, "--color", "acuracy", exit_status=2)
    assert answer.stderr.startswith("unknown color 'acuracy'. Known: last_loss")
    gives("run", "--task", "noisy_line", "--steps", "2", "--out", "single", "--quiet")
    answer = gives("plot", "single", "--color", "loss", exit_status=2)
    assert answer.stderr == "--color loss: only a map has colours. Pass the folder of a sweep.\n"


def test_show_and_export_have_the_measured_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = written(results(training_set_loss=[math.nan, 0.2, None, 0.4, 0.5, 0.6], last_error=[2.0] * 6))
    shown = gives("show", folder).stdout.splitlines()[-4:]
    assert shown == [
        "last_loss          1 … 6, median 3",
        "best_loss          1 … 6, median 3",
        "training_set_loss  0.2 … nan, median 0.5",
        "last_error         2 … 2, median 2",
    ]
    ranges = json.loads(gives("show", folder, "--json").stdout)["ranges"]
    assert ranges["training_set_loss"] == {"lowest": 0.2, "median": 0.5, "highest": "nan"}
    lines = [line.split(",") for line in gives("export", folder).stdout.splitlines()]
    assert lines[0][-3:] == ["best_loss", "training_set_loss", "last_error"]
    assert [line[-2] for line in lines[1:]] == ["nan", "0.2", "", "0.4", "0.5", "0.6"]
