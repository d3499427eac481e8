"""What the tests of pages need besides Python: Node, TypeScript, axe-core and Chromium, each if it is there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradlab.pages import bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]
ENTRY = ROOT / "tests" / "pages" / "answers.js"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
# `make check` installs package.json into the environment of Python.
PLACES = [*os.environ.get("NODE_PATH", "").split(os.pathsep), str(Path(sys.prefix) / "pages" / "node_modules")]


def node() -> str:
    """Return the path of Node, or skip the test. All skipped tests share one line of the summary."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("no Node: the scripts of pages are not tested outside a browser")
    return found


def package(name: str) -> Path:
    """Return the folder of a package of npm, or skip the test."""
    found = [Path(place) / name for place in PLACES if place and (Path(place) / name).is_dir()]
    if not found:
        pytest.skip(f"no {name}: `make check` installs it where npm and a registry can be reached")
    return found[0]


def answers_in_node(questions: list[tuple[str, Any]], folder: Path) -> list[Any]:
    """Return what the functions in answers.js return for these questions, computed by Node."""
    command = [node(), str(folder / "answers.mjs")]
    read = 'const { readFileSync } = await import("node:fs");\n'
    (folder / "answers.mjs").write_text(f"{bundle(ENTRY)}\n{read}console.log(answers(readFileSync(0, 'utf8')));\n")
    done = subprocess.run(command, input=json.dumps(questions), capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[Any] = json.loads(done.stdout)
    return found


def chromium() -> AbstractContextManager[Browser]:
    """Start Chromium, or skip the tests where it is missing or does not start, as the stub of a snap."""
    from contextlib import contextmanager

    if CHROMIUM is None:
        pytest.skip("no Chromium: the pages are not tested in a browser")

    @contextmanager
    def started() -> Iterator[Browser]:
        from playwright.sync_api import Error, sync_playwright

        with sync_playwright() as playwright:
            try:
                browser = playwright.chromium.launch(
                    executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
                )
            except Error:
                pytest.skip(f"{CHROMIUM} does not start: the pages are not tested in a browser")
            yield browser
            browser.close()

    return started()
