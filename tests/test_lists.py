"""The lists of runs, and of names with their meaning."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.table import Table

from gradlab import modes
from gradlab.store import RunRecord
from gradlab.terminal.lists import run_list, word_list
from tests.screen import MODES, WIDTHS, shown


@pytest.mark.parametrize("width", WIDTHS)
def test_the_list_of_runs_fits_the_width(width: int) -> None:
    records = [
        RunRecord("a_long_name_of_an_experiment", mode, 4294967295, "abc", {}, "interrupted", rows=123456,
                  started="2026-01-02T03:04:05+00:00")
        for mode in MODES
    ]  # fmt: skip
    lines = shown(run_list(records, width), width)
    assert max(map(cell_len, lines)) <= width
    assert all(mode[:9] in "".join(lines) for mode in MODES)


def runs_of(name: str, *grid: tuple[str, int, float]) -> list[RunRecord]:
    started = "2026-01-02T03:04:05+00:00"
    return [
        RunRecord(name, mode, seed, "abc", {"optimizer": {"lr": lr}}, "interrupted", rows=1234, started=started)
        for mode, seed, lr in grid
    ]


def test_a_narrow_list_of_runs_has_a_table_per_experiment() -> None:
    lines = shown(
        run_list([*runs_of("line", ("zero_grad", 7, 0.5)), *runs_of("digits", ("halve_grad", 7, 0.5))], 40), 40
    )
    assert [line.split() for line in lines] == [
        ["runs", "of", "line"],
        ["mode", "seed", "lr", "status"],
        ["zero_grad", "7", "0.5", "interrupted"],
        ["runs", "of", "digits"],
        ["mode", "seed", "lr", "status"],
        ["halve_grad", "7", "0.5", "interrupted"],
    ]


@pytest.mark.parametrize("width", [20, 30, 40, 60])
def test_runs_that_differ_have_different_lines(width: int) -> None:
    grid = [(mode, seed, lr) for mode in ("zero_grad", "no_zero_grad") for seed in (1, 2) for lr in (0.01, 0.02)]
    table = run_list(runs_of("line", *grid), width).renderables[0]
    assert isinstance(table, Table)
    cells = [[str(cell) for cell in column.cells] for column in table.columns]
    assert len(set(zip(*cells, strict=True))) == len(grid)
    assert max(map(cell_len, shown(table, width))) <= width


def test_a_shared_seed_gives_way_to_one_that_differs() -> None:
    lines = shown(run_list(runs_of("line", ("zero_grad", 1, 0.01), ("zero_grad", 1, 0.02)), 31), 31)
    assert lines[1].split() == ["mode", "lr", "status"]


def test_a_wide_list_of_runs_has_all_columns() -> None:
    record = RunRecord(
        "line", "zero_grad", 7, "abc", {"optimizer": {"lr": 0.5}}, "done", rows=0, started="2026-01-02T03:04:05+00:00"
    )
    assert [line.split() for line in shown(run_list([record], 120), 120)] == [
        ["experiment", "mode", "seed", "lr", "status", "rows", "started"],
        ["line", "zero_grad", "7", "0.5", "done", "0", "2026-01-02", "03:04"],
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_list_of_words_fits_the_width_and_prints_brackets(width: int) -> None:
    lines = shown(word_list(modes.WORDS | {"x[bold]": "y[/bold]"}), width)
    assert max(map(cell_len, lines)) <= width
    assert "x[bold]" in "".join(lines)
    assert "y[/bold]" in "".join(lines)
    assert "…" not in "".join(lines)
