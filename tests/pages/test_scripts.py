"""The scripts of pages have types, which TypeScript checks."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.pages.tools import ROOT, node, package

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURATION = ROOT / "tests" / "pages" / "tsconfig.json"
pytestmark = pytest.mark.slow


def faults_in(configuration: Path) -> str:
    compiler = package("typescript") / "bin" / "tsc"
    done = subprocess.run(
        [node(), str(compiler), "-p", str(configuration)], capture_output=True, text=True, check=False
    )
    return done.stdout


def test_scripts_have_no_faults_of_type() -> None:
    assert faults_in(CONFIGURATION) == ""


def test_a_fault_of_type_is_found(folder: Path) -> None:
    (folder / "wrong.js").write_text("/** @param {number} x */\nexport function f(x) {\n  return x.length;\n}\n")
    (folder / "tsconfig.json").write_text(f'{{"extends": "{CONFIGURATION}", "include": ["{folder}/wrong.js"]}}')
    assert "wrong.js(3,12): error TS2339" in faults_in(folder / "tsconfig.json")
