"""gradlab.compare: a comparison from Python, with the runs of the command line."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import gradlab
from gradlab.cli import app
from gradlab.comparison import processes
from gradlab.errors import CheckError, CompareError, GradlabError, NothingComparedError
from tests.comparison import fake_child
from tests.comparison.test_comparing import RANDOM, TRAINS

MODES = ["zero_grad", "no_zero_grad"]


@pytest.fixture(autouse=True)
def _fake(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_CHILD", fake_child.CODE)
    monkeypatch.setenv("FAKE_STARTS", str(folder.parent / f"starts of {folder.name}"))
    Path("train.py").write_text(TRAINS)


def compared(script: str | Path = "train.py", **more: Any) -> gradlab.api.script_results.ScriptRuns:
    return gradlab.compare(script, **{"modes": MODES, "quiet": True, **more})


def test_the_runs_are_those_of_the_command_line() -> None:
    words = ["compare", "-m", "zero_grad", "-m", "no_zero_grad", "-q", "train.py", "--lr", "0.1"]
    assert CliRunner().invoke(app, words).exit_code == 0
    result = compared(args=["--lr", 0.1])
    assert [run.cached for run in result] == [True] * 3
    assert (result.modes, result.seeds, result.script) == (["as_written", *MODES], [42], "train.py")
    assert result.folder == Path("runs/train")
    assert result.check() is result


def test_the_result_says_what_the_script_does() -> None:
    result = compared()
    assert "as written: no_zero_grad (keep 1). With zero_grad the last epoch's loss" in repr(result)
    assert "as written: no_zero_grad (keep 1)." in result._repr_html_()
    assert result["zero_grad", 42].compared["imposed"] == "yes"
    assert result["as_written"].runs == result.runs[:1]
    assert result.plot().axes


def test_the_result_shows_the_last_line_of_every_run() -> None:
    Path("prints.py").write_text(f"{TRAINS}\nprint('all done')\n")
    result = compared("prints.py", modes="zero_grad")
    lines = repr(result).splitlines()
    start = lines.index("last line printed")
    assert lines[start + 1 : start + 3] == [" as_written  all done", " zero_grad   all done"]
    html = result._repr_html_()
    assert html.count("<thead>") == 1, "the table of printed lines has no header"
    assert html.count(">all done</td>") == 2


def test_seeds_and_modes_have_the_forms_of_run() -> None:
    Path("noise.py").write_text(RANDOM)
    result = compared("noise.py", modes=gradlab.modes.decay(0.5), seeds=2)
    assert ([*result.modes], result.seeds) == (["as_written", "decay:0.5"], [0, 1])
    assert compared("noise.py", modes="decay:0.5", seeds=[3]).seeds == [3]


def test_out_none_keeps_no_files(folder: Path) -> None:
    result = compared(out=None)
    assert (result.folder, [run.folder for run in result]) == (None, [None] * 3)
    assert [file.name for file in folder.iterdir()] == ["train.py"]


def test_a_second_interrupt_leaves_no_process_and_no_copy(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = """
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(os.environ["STARTED"]).write_text(str(os.getpid()))
time.sleep(60)
"""
    Path("train.py").write_text(TRAINS + lines)
    started, temporary = folder / "started", tmp_path_factory.mktemp("copies")
    monkeypatch.setenv("STARTED", str(started))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def interrupt_twice() -> None:
        until = time.monotonic() + 60
        while not (started.exists() and started.read_text()):
            time.sleep(0.01)
            if time.monotonic() > until:
                return
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)

    thread = threading.Thread(target=interrupt_twice, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        compared()
    thread.join()
    assert list(temporary.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_a_mode_that_was_not_imposed_fails_the_check() -> None:
    lines = 'if job.mode == "zero_grad":\n    report(good=0)\n'
    Path("train.py").write_text(TRAINS + lines)
    result = compared()
    assert not result.ok
    with pytest.raises(CheckError, match="zero_grad was not imposed"):
        result.check()


def test_a_script_without_steps_is_an_error() -> None:
    Path("train.py").write_text("pass")
    with pytest.raises(NothingComparedError, match="no optimizer took a step"):
        compared()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"jobs": 0}, "jobs must be at least 1, got 0"),
        ({"timeout": -1}, "timeout must be at least 0, got -1"),
        ({"max_steps": True}, "max_steps must be at least 1, got True"),
        ({"seeds": []}, "seeds must be the number of seeds, or a list of integers from 0 to 4294967295, got []"),
        ({"seeds": [-1]}, "from 0 to 4294967295, got [-1]"),
        ({"modes": "nope"}, "unknown mode 'nope'"),
        ({"script": "nosuch.py"}, "script 'nosuch.py' cannot be read"),
    ],
)
def test_errors_come_before_the_script_runs(given: dict[str, Any], message: str) -> None:
    with pytest.raises(GradlabError) as raised:
        compared(**given)
    assert message in str(raised.value)
    assert not Path(os.environ["FAKE_STARTS"]).exists()
    assert isinstance(raised.value, CompareError) or "mode" in message
