"""What to compare: which folder is copied for a script, and what identifies a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from gradlab import modes
from gradlab.comparison.request import CompareRequest, find_script, parse_modes
from gradlab.errors import CompareError, ModeError
from gradlab.store import ExperimentFolder


def write(name: str) -> Path:
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("")
    return file


def test_a_script_below_the_current_folder_is_copied_with_it() -> None:
    write("scripts/train.py")
    script = find_script("./scripts/../scripts/train.py", is_module=False)
    assert (script.folder, script.at, script.stem) == (Path.cwd(), "scripts/train.py", "train")


def test_a_script_elsewhere_runs_in_a_copy_of_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("there/train.py")
    Path("here").mkdir()
    monkeypatch.chdir("here")
    for name in ("../there/train.py", str(folder / "there/train.py")):
        script = find_script(name, is_module=False)
        assert (script.folder, script.at, script.name) == (folder / "there", "train.py", name)


@pytest.mark.parametrize(("file", "name"), [("pack/train.py", "pack.train"), ("train/__main__.py", "train")])
def test_a_module_runs_in_a_copy_of_the_current_folder(file: str, name: str) -> None:
    write(file)
    script = find_script(name, is_module=True)
    assert (script.folder, script.at, script.stem, script.is_module) == (Path.cwd(), name, "train", True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("json.tool", "module 'json.tool' is not in this folder, so its runs cannot have a copy of it"),
        ("no.such", "module 'no.such' has no .py file here or among installed packages"),
        ("..", "module '..' has no .py file here or among installed packages"),
    ],
)
def test_a_module_that_cannot_be_copied_is_refused(name: str, message: str) -> None:
    with pytest.raises(CompareError, match=f"^{re.escape(message)}$"):
        find_script(name, is_module=True)


def test_modes_are_those_of_run_each_once() -> None:
    assert [mode.name for mode in parse_modes([])] == list(modes.DEFAULT)
    assert [mode.name for mode in parse_modes(["halve-grad", "decay:0.9", "halve_grad"])] == [
        "halve_grad",
        "decay:0.9",
    ]


def test_a_mistake_in_an_own_mode_shows_before_the_script_runs() -> None:
    Path("mine.py").write_text("def halves(parameters): ...")
    with pytest.raises(ModeError, match="must take the parameters and the update number"):
        parse_modes(["mine.py:halves"])


def request(**settings: Any) -> CompareRequest:
    script = find_script("train.py", is_module=False)
    return CompareRequest(script, **({"args": (), "modes": (modes.zero_grad(),), "seeds": (1,)} | settings))


def identities(**settings: Any) -> list[str]:
    made = request(**settings)
    folder = ExperimentFolder(Path("runs/train"))
    return [made.plan(mode, 1, folder).folder.path.name for mode in (None, *made.modes)]


def test_runs_of_different_settings_have_different_folders() -> None:
    write("train.py")
    before = identities()
    assert identities(timeout=3.0, jobs=2, fresh=True, seeds=(1, 2)) == before
    changes: list[dict[str, Any]] = [{"args": ("a",)}, {"most_passes": 5}, {"only": 1}, {"in_place": True}]
    found = [identities(**change) for change in changes]
    Path("train.py").write_text("# changed")
    found.append(identities())
    assert len({name for names in (before, *found) for name in names}) == 2 * (1 + len(found))


def test_the_source_of_an_own_mode_decides_only_its_own_runs() -> None:
    write("train.py")
    Path("mine.py").write_text("def halves(parameters, update): ...")
    before = identities(modes=parse_modes(["mine.py:halves"]))
    Path("mine.py").write_text("def halves(parameters, update): ...  # changed")
    after = identities(modes=parse_modes(["mine.py:halves"]))
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)


def test_the_title_is_what_a_user_types() -> None:
    write("train.py")
    assert request(args=("--name", "two words")).title == "train.py --name 'two words'"
