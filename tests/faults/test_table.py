"""The table of faults names a test for each, and each test stands in it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.table import FAULTS

if TYPE_CHECKING:
    from collections.abc import Iterable

# What a wish to stop leaves: no faults, and their rows are those of the table of signals.
BESIDES = {
    "test_a_run_that_was_stopped_goes_on_there_and_leaves_no_checkpoint",
    "test_a_run_stopped_again_and_again_ends_in_the_same_rows",
    "test_the_seconds_of_all_its_parts_are_counted",
    "test_what_is_trained_anew_goes_on_from_nothing",
}


def test_each_fault_has_its_test_and_each_test_its_fault() -> None:
    files = [file for file in Path(__file__).parent.glob("test_*.py") if file.name != "test_table.py"]
    here = set(functions_in(files))
    named = {fault.test for fault in FAULTS}
    assert {test for test in here if test not in named} <= BESIDES
    assert named <= here | set(functions_in([Path(__file__).parent.parent / "test_resuming.py"]))


def functions_in(files: Iterable[Path]) -> list[str]:
    nodes = [node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body]
    tests = [node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    assert len(tests) == len(set(tests))
    return tests


def test_no_fault_is_listed_twice() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
