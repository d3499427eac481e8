"""The scripts of pages have types, which TypeScript checks."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from gradlab.pages.assembling import SOURCES, bundle
from tests.pages import tools
from tests.pages.tools import ROOT, chromium, node, package

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURATION = ROOT / "tests" / "pages" / "tsconfig.json"
pytestmark = pytest.mark.slow


def faults_in(configuration: Path) -> str:
    """Return what the compiler reports; it must have run."""
    compiler = package("typescript") / "bin" / "tsc"
    done = subprocess.run(
        [node(), str(compiler), "-p", str(configuration)], capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) == (done.stdout == ""), done.stderr
    assert done.stderr == ""
    return done.stdout


def test_scripts_have_no_faults_of_type() -> None:
    assert faults_in(CONFIGURATION) == ""


def test_the_script_of_the_page_is_valid_as_one_file(folder: Path) -> None:
    script = folder / "main.mjs"
    script.write_text(bundle(SOURCES / "explore" / "main.js"))
    done = subprocess.run([node(), "--check", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_fault_of_type_is_found(folder: Path) -> None:
    (folder / "wrong.js").write_text("/** @param {number} x */\nexport function f(x) {\n  return x.length;\n}\n")
    (folder / "tsconfig.json").write_text(f'{{"extends": "{CONFIGURATION}", "include": ["{folder}/wrong.js"]}}')
    assert "wrong.js(3,12): error TS2339" in faults_in(folder / "tsconfig.json")


def test_a_browser_that_does_not_start_skips_its_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("playwright")
    monkeypatch.setattr(tools, "CHROMIUM", shutil.which("false"))
    with pytest.raises(pytest.skip.Exception, match="false does not start: the pages are not tested"), chromium():
        pass
