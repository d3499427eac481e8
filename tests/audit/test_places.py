"""The distinction between the user's code and other code."""

from __future__ import annotations

import json
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from gradlab.audit import places
from gradlab.cli import app
from tests.audit.training import NEVER_CLEARING, NEVER_CLEARING_LINES


@pytest.mark.usefixtures("_main_restored")
def test_an_installed_package_is_the_users_own_when_audited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = folder / "site-packages"
    (installed / "trains_itself" / "run").mkdir(parents=True)
    for name, text in (
        ("__init__", ""),
        ("loop", NEVER_CLEARING),
        ("run/__init__", ""),
        ("run/all", "import trains_itself.loop"),
    ):
        (installed / "trains_itself" / f"{name}.py").write_text(text)
    (installed / "other.py").touch()
    monkeypatch.syspath_prepend(str(installed))
    monkeypatch.setattr(places, "_audited", set())  # nothing public forgets what is audited
    done = CliRunner().invoke(app, ["audit", "--json", "-m", "trains_itself.run.all"])
    (found,) = json.loads(done.stdout)["findings"]
    assert {each["file"] for each in found["places"]} == {str(installed / "trains_itself" / "loop.py")}
    assert [each["line"] for each in found["places"]] == NEVER_CLEARING_LINES
    assert not places.is_user_code(str(installed / "other.py"))


def test_files_beside_an_environments_folders_are_the_users_own() -> None:
    assert places.is_user_code(str(Path(sysconfig.get_path("data")) / "train.py"))
    assert not places.is_user_code(str(Path(sysconfig.get_path("purelib")) / "train.py"))


def test_a_temporary_file_of_a_notebook_is_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"/var/ipykernel_7/123.py": ("Cell", "In[3]")}
    shell = SimpleNamespace(compile=SimpleNamespace(format_code_name=known.get))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert [places.notebook_cell(file) for file in (*known, "/home/train.py")] == ["In[3]", None]


def test_a_cell_under_time_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "def f():\n    return places.user_location(), places.user_function()\nfound = f()"
    shell = SimpleNamespace(history_manager=SimpleNamespace(input_hist_raw=["", "1", f"%%time\n{body}"]))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    names: dict[str, Any] = {"places": places}
    exec(compile(body, "<timed exec>", "exec"), names)  # noqa: S102 - our own code
    assert [(places.notebook_cell(each.file), each.line) for each in names["found"]] == [("In[2]", 3), ("In[2]", 2)]
    shell.history_manager.input_hist_raw.append("%time x = places.user_location()")
    exec(compile("x = places.user_location()", "<timed exec>", "exec"), names)  # noqa: S102 - our own code
    assert Path(names["x"].file) == Path(__file__), "a statement after %time has the place of the line around it"
