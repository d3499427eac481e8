"""Lines of a comparison: the script's mode as written, modes that were not imposed, the last lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from rich.cells import cell_len

from gradlab.terminal.comparison_lines import as_written_line, imposed_lines, last_lines
from gradlab.terminal.run_table import run_table
from tests.making import result
from tests.screen import WIDTHS, shown

if TYPE_CHECKING:
    from gradlab.analysis.results import Result

IMPOSED = {"imposed": "yes", "imposed_share": 1.0, "imposed_reason": ""}
FORGOTTEN = {"class": "SGD", "mode": "no_zero_grad", "keep": 1.0, "passes": 1}
CLEARED = {"class": "Adam", "mode": "zero_grad", "keep": 0.0, "passes": 1}
LOSSES = {"as_written": 3.526, "zero_grad": 1.1334}


def run(mode: str, losses: list[float], seed: int = 1, per_epoch: int = 2, **compared: Any) -> Result:
    return result(losses, mode, seed, per_epoch)._replace(compared=IMPOSED | compared)


def line(*optimizers: dict[str, Any], per_epoch: int = 2, **compared: Any) -> str:
    """Return the line for a script with these optimizers, beside a run with zero_grad."""
    written = run("as_written", [6.0, 6.0, 3.0, 4.052], per_epoch=per_epoch, optimizers=list(optimizers), **compared)
    return as_written_line([written, run("zero_grad", [6.0, 6.0, 1.0, 1.2668], per_epoch=per_epoch)])


def test_a_forgotten_line_is_compared_by_the_last_epoch() -> None:
    assert line(FORGOTTEN) == (
        "as written: no_zero_grad (keep 1). With zero_grad the last epoch's loss is 1.13 instead of 3.53."
    )


def test_only_finished_runs_of_common_seeds_are_compared() -> None:
    losses = [6.0, 6.0, 3.0, 4.052]
    written = [run("as_written", losses, seed, optimizers=[FORGOTTEN]) for seed in (1, 2, 3)]
    fixed = [run("zero_grad", [6.0, 6.0, 1.0, 1.2668], seed) for seed in (1, 2, 3)]
    written[2] = run("as_written", [9.0, 9.0, 9.0, 9.0], 3, optimizers=[FORGOTTEN])
    failed = run("zero_grad", [6.0, 6.0], 3)._replace(status="failed")
    assert as_written_line([*written, *fixed[:2], failed]) == line(FORGOTTEN)
    assert as_written_line([written[2], failed]) == "as written: no_zero_grad (keep 1)."


def test_without_epochs_the_last_tenth_is_compared() -> None:
    assert line(FORGOTTEN, per_epoch=100).endswith(
        "With zero_grad the loss of the last tenth of the steps is 1.27 instead of 4.05."
    )


@pytest.mark.parametrize(
    ("optimizers", "text"),
    [
        ([CLEARED], "zero_grad (keep 0), nothing to fix."),
        ([CLEARED | {"mode": "accumulate:4"}], "accumulate:4 (keep 0), nothing to fix."),
        ([CLEARED, CLEARED], "zero_grad (keep 0), nothing to fix."),
        ([CLEARED, FORGOTTEN], "Adam zero_grad (keep 0); SGD no_zero_grad (keep 1). With zero_grad the last"),
        (
            [FORGOTTEN, FORGOTTEN | {"mode": "halve_grad", "keep": 0.5}],
            "SGD 1 no_zero_grad (keep 1); SGD 2 halve_grad (keep 0.5). With zero_grad the last",
        ),
        ([{**FORGOTTEN, "mode": "decay:0.0000153", "keep": 2**-16}], "decay:0.0000153 (keep 1.53e-05). With"),
        ([{**FORGOTTEN, "mode": None, "keep": 0.0}], "no single mode (keep 0 in the median). With zero_grad"),
        ([{**FORGOTTEN, "mode": None, "keep": None}], "keep not measured. With zero_grad"),
    ],
)
def test_what_the_script_does_as_written(optimizers: list[dict[str, Any]], text: str) -> None:
    assert line(*optimizers).startswith(f"as written: {text}")


def test_the_spread_of_a_random_script_is_next_to_the_losses() -> None:
    repeat = {"steps": 4, "differs_from": 2, "spread": 0.0123, "reason": ""}
    assert line(FORGOTTEN, repeat=repeat).endswith("1.13 instead of 3.53 (a second run differs by 0.012).")
    assert line(FORGOTTEN, repeat=repeat | {"differs_from": None}).endswith("1.13 instead of 3.53.")


def test_a_fix_that_was_not_imposed_is_not_claimed() -> None:
    written = run("as_written", [6.0, 3.0], optimizers=[FORGOTTEN])
    assert as_written_line([written]) == "as written: no_zero_grad (keep 1)."
    assert as_written_line([written, run("zero_grad", [6.0, 1.0], imposed="no")]) == as_written_line([written])
    assert as_written_line([written, run("zero_grad", [])]) == as_written_line([written])
    assert as_written_line([run("as_written", [6.0, 3.0], optimizers=[])]) == ""


def test_losses_are_medians_over_seeds() -> None:
    written = [
        run("as_written", [9.0, 9.0, last, last], seed, optimizers=[FORGOTTEN]) for seed, last in enumerate([1, 5, 8])
    ]
    fixed = [run("zero_grad", [9.0, 9.0, last, last], seed) for seed, last in enumerate([1, 2, 4])]
    assert as_written_line([*written, *fixed]).endswith("the last epoch's loss is 2 instead of 5.")


@pytest.mark.parametrize(
    ("compared", "text"),
    [
        ({}, None),
        ({"imposed_reason": "windows continue across epochs"}, "accumulate:2: windows continue across epochs"),
        (
            {"imposed": "approximate", "imposed_share": 0.96, "imposed_reason": "it clips"},
            "accumulate:2 was imposed at 96 % of the updates: it clips",
        ),
        (
            {"imposed": "approximate", "imposed_reason": "a scheduler steps per batch"},
            "accumulate:2 was imposed approximately: a scheduler steps per batch",
        ),
        (
            {"imposed": "no", "imposed_share": 0.0, "imposed_reason": "it clears"},
            "accumulate:2 was not imposed; it holds at 0 % of the updates: it clears",
        ),
    ],
)
def test_how_a_mode_was_imposed(compared: dict[str, Any], text: str | None) -> None:
    found = imposed_lines([run("as_written", [1.0]), run("accumulate:2", [1.0], **compared)])
    assert list(found) == ([] if text is None else [text])


def test_nothing_is_said_of_a_run_that_never_trained() -> None:
    assert list(imposed_lines([run("zero_grad", [], imposed="no", imposed_share=0.0, imposed_reason="no step")])) == []


def test_the_worst_seed_counts() -> None:
    runs = [
        run("zero_grad", [1.0], 1, imposed="approximate", imposed_share=0.95, imposed_reason="it clips"),
        run("zero_grad", [1.0], 2, imposed="no", imposed_share=0.5, imposed_reason="it clears"),
    ]
    assert list(imposed_lines(runs)) == [
        "zero_grad was not imposed; it holds at 50 % of the updates: it clips; it clears"
    ]


def test_last_lines_name_the_seed_only_if_there_are_several() -> None:
    table = last_lines([run("as_written", [1.0], last_line="acc 0.9"), run("zero_grad", [1.0], last_line="")])
    assert table is not None
    assert shown(table) == ["last line printed", " as_written  acc 0.9"]
    table = last_lines([run("zero_grad", [1.0], seed, last_line=f"[bold]{seed}") for seed in (3, 4)])
    assert table is not None
    assert shown(table)[1:] == [" zero_grad 3  [bold]3", " zero_grad 4  [bold]4"]
    assert last_lines([run("zero_grad", [1.0])]) is None


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_marks_modes_at_every_width(width: int) -> None:
    runs = [run("as_written", [4.0, 2.0] * 9), run("keep=-0.5,every=12:sum", [4.0, 2.0] * 9, imposed="approximate")]
    lines = shown(run_table(runs, width), width)
    assert max(map(cell_len, lines)) <= width
    assert "imposed" in lines[0]
    assert any("approx" in each for each in lines)  # the rest may be on the next line


def test_a_failed_script_shows_its_verdict() -> None:
    failed = result([9.0, 9.0, 5.0, 5.0, 2.0, 2.0], status="failed")
    assert shown(run_table([failed], 120))[1].endswith("failed")
    assert shown(run_table([failed._replace(compared=IMPOSED)], 120))[1].endswith("failed, falls")


def test_the_table_of_a_script_without_epochs_has_its_last_tenth() -> None:
    losses = [float(each) for each in range(30, 0, -1)]
    header, cells = shown(run_table([run("zero_grad", losses, per_epoch=100)], 120))
    assert "last tenth" in header
    assert cells.split()[4] == "2"
