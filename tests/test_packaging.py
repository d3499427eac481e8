"""What `pip install .` installs is all that gradlab needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parent.parent
FILES = """
from gradlab import experiment, pages, shipped
assert "</html>" in pages.explore_page()
print(*experiment.shipped().values(), *shipped.rules().glob("*.md"))
"""


def test_wheel_holds_modules_experiments_pages_and_no_tests(folder: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    names = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {str(file.relative_to(ROOT)) for file in ROOT.glob("gradlab/**/*.py")}
    files = [*ROOT.glob("experiments/*.toml"), ROOT / "experiments" / "own_mode.py"]  # the latter a TOML names
    experiments = {f"gradlab/experiments/{file.name}" for file in files}
    assert len(experiments) >= 4
    pages = {f"gradlab/rules/{file.name}" for file in ROOT.glob("docs/rules/*.md")}
    assert "gradlab/rules/never-cleared.md" in pages
    sources = {str(file.relative_to(ROOT)) for file in ROOT.glob("gradlab/pages/*/*.*") if file.suffix != ".pyc"}
    assert {"gradlab/pages/explore/main.js", "gradlab/pages/shared/base.css"} <= sources
    assert names == modules | experiments | pages | sources | {"gradlab/py.typed"}


def test_unpacked_wheel_finds_shipped_files_by_name(folder: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    ZipFile(wheel).extractall(folder / "unpacked")
    listing = subprocess.run(
        [sys.executable, "-P", "-c", FILES],
        cwd=folder, env={"PYTHONPATH": str(folder / "unpacked")}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    files = [Path(name) for name in listing.stdout.split()]
    assert {file.stem for file in files} >= {"diverging_loss", "straight_line", "digits", "smoke", "never-cleared"}
    assert all(file.is_relative_to(folder / "unpacked") for file in files)
