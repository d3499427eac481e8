"""The table of faults names a test for each, and each test stands in it."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.faults.table import FAULTS


def test_each_fault_has_its_test_and_each_test_its_fault() -> None:
    files = [file for file in Path(__file__).parent.glob("test_*.py") if file.name != "test_table.py"]
    nodes = [node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body]
    tests = [node.name for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    assert len(tests) == len(set(tests))
    assert set(tests) == {fault.test for fault in FAULTS}


def test_no_fault_is_listed_twice() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
