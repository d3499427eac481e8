"""Every fault in the tables has a test, and every test of a fault is in the tables."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults import table, table_input, table_sweeps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.faults.table import Fault

HERE = Path(__file__).parent
ALL = [*table.FAULTS, *table_input.FAULTS, *table_sweeps.FAULTS]

# Tests of stop requests, which are not faults.
NO_FAULTS = {
    "test_a_stopped_run_resumes_and_leaves_no_checkpoint",
    "test_a_run_stopped_again_and_again_ends_in_the_same_rows",
    "test_the_seconds_of_all_its_parts_are_counted",
    "test_what_is_trained_anew_goes_on_from_nothing",
    "test_the_rows_of_a_checkpoint_are_on_the_disk_before_it",
    "test_a_stopped_fresh_run_says_how_to_continue",
    "test_a_step_that_fails_on_a_stop_leaves_an_interrupted_run",
}


def test_every_fault_has_a_test() -> None:
    files = [*HERE.glob("test_*.py"), HERE.parent / "test_resuming.py"]
    assert {name_of(fault) for fault in ALL} <= set(functions_in(files))


@pytest.mark.parametrize("file", ["test_damage.py", "test_injected.py", "test_processes.py", "test_resume.py"])
def test_every_test_of_a_fault_is_in_a_table(file: str) -> None:
    assert set(functions_in([HERE / file])) - {name_of(fault) for fault in ALL} <= NO_FAULTS


def test_fault_names_are_unique() -> None:
    assert len({fault.name.lower() for fault in ALL}) == len(ALL)


def test_the_reliability_page_states_both_counts() -> None:
    page = (HERE.parent.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
    counts = re.findall(r"([\d,]+) (faults|injections)\b", page)
    assert counts == [(str(len(ALL)), "faults"), (f"{sum(fault.times for fault in ALL):,}", "injections")]


def name_of(fault: Fault) -> str:
    return fault.test.rpartition("::")[2]


def functions_in(files: Iterable[Path]) -> list[str]:
    nodes = [node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body]
    tests = [node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    assert len(tests) == len(set(tests))
    return tests
