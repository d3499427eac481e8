"""Names and paths from users: each one works in all commands, or is refused in one or two lines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from gradlab.cli import app

if TYPE_CHECKING:
    from typer.testing import Result

RUN = ["run", "--steps", "3", "-m", "zero_grad", "-q"]
LINE = [*RUN, "--task", "noisy_line"]
TASK = """
import torch
from gradlab import Task

def {function}(seed: int) -> Task:
    return Task.supervised(torch.nn.Linear(1, 1), [(torch.ones(1, 1), torch.ones(1, 1))], torch.nn.MSELoss())

def leave(parameters, update):
    pass
"""
WIDE = "\N{MATHEMATICAL SCRIPT CAPITAL X}"  # a letter of four bytes


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def assert_works(answer: Result, name: str) -> None:
    """Check that every command can read the runs of the only experiment."""
    assert answer.exit_code == 0, answer.output
    (folder,) = Path("runs").iterdir()
    assert folder.name == name
    (listed,) = json.loads(invoke("list", "--json").stdout)["runs"]
    assert (listed["experiment"], listed["status"]) == (name, "done")
    for command in (["show", str(folder)], ["plot", str(folder)], ["export", str(folder), "-o", "a.csv"]):
        again = invoke(*command)
        assert again.exit_code == 0, (command, again.output)
    assert (folder / "loss.png").is_file()
    assert len(Path("a.csv").read_text().splitlines()) == 4


def assert_refused(answer: Result) -> None:
    """Check that one or two lines report the error, and that no file was written."""
    assert answer.exit_code == 2, answer.output
    assert 1 <= len(answer.stderr.splitlines()) <= 2
    assert len(answer.stderr) < 500
    assert not Path("runs").exists()
    assert not list(Path("..").glob("escaped*"))


WORKING = ["a b", "ünïcode", "名前", "x" * 100, WIDE * 50, "-".join("abc"), "a.b..c", "v=1+2", "console", "_"]
REFUSED = [
    "",
    " ",
    ".",
    "..",
    "../escaped",
    "/escaped",
    "a/b",
    "a\\b",
    ".hidden",
    "-o",
    "a\nb",
    "a\0b",
    "a\x1b[31m",
    "a\u202eb",
    "a.",
    "a ",
    "x" * 300,
    "x" * 101,
    WIDE * 100,
    "CON",
    "nul",
    "aux.txt",
    "com1",
    "LPT9.x",
    "COM¹",
    "a:b",
    "a*",
    "a?",
    "C:x",
]


@pytest.mark.parametrize("name", WORKING, ids=ascii)
def test_an_odd_name_that_works_works_in_every_command(name: str) -> None:
    assert_works(invoke(*LINE, "--set", f"name={json.dumps(name, ensure_ascii=False)}"), name)


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_a_name_of_no_folder_is_refused_in_a_line(name: str) -> None:
    assert_refused(invoke(*LINE, "--set", f"name={json.dumps(name)}"))
    Path("e.toml").write_text(f"task = 'noisy_line'\nname = {json.dumps(name, ensure_ascii=False)}\n")
    answer = invoke("run", "e.toml")
    assert_refused(answer)
    assert answer.stderr.startswith("e.toml:2: name ")


@pytest.mark.parametrize("stem", ["a b", "名前", "x" * 100])
def test_the_name_of_a_file_that_works_is_that_of_the_experiment(stem: str) -> None:
    Path(f"{stem}.toml").write_text("task = 'noisy_line'\n")
    assert_works(invoke(*RUN, f"{stem}.toml"), stem)


@pytest.mark.parametrize("stem", ["mine (1)", "x" * 200, "aux", ".hidden", "a.", "\x1b[31m"], ids=ascii)
def test_a_file_name_that_is_no_folders_is_refused(stem: str) -> None:
    Path(f"{stem}.toml").write_text("task = 'noisy_line'\n")
    refused = invoke(*RUN, f"{stem}.toml")
    assert_refused(refused)
    assert "name = …" in refused.stderr
    assert "\x1b" not in refused.stderr
    assert_works(invoke(*RUN, f"{stem}.toml", "--set", "name=mine"), "mine")


@pytest.mark.parametrize(
    "file", ["my task (1).py", "ünïcode.py", f"{'x' * 200}.py", f"{'x' * 252}.py", "$a$b$.py", "[red]a.py"]
)
def test_an_odd_file_of_a_task_and_of_a_mode_works(file: str) -> None:
    Path(file).write_text(TASK.format(function="mine"))
    answer = invoke("run", "--steps", "3", "--task", f"./{file}:mine", "-m", f"{file}:leave", "-q")
    assert_works(answer, "mine")
    assert not list(Path("runs").glob("*/*/*.new"))


@pytest.mark.parametrize("file", ["a\x1b[31m.py", "a\nb.py", "a\u202eb.py"], ids=ascii)
def test_a_user_file_whose_name_cannot_be_shown_is_refused(file: str) -> None:
    Path(file).write_text(TASK.format(function="mine"))
    assert_refused(invoke(*RUN, "--task", f"{file}:mine"))
    assert_refused(invoke("run", "--task", "noisy_line", "-m", f"{file}:leave"))


@pytest.mark.parametrize("function", ["con", "x" * 300, WIDE * 90], ids=ascii)
def test_a_function_of_a_name_that_is_no_folders_is_refused(function: str) -> None:
    Path("t.py").write_text(TASK.format(function=function))
    assert_refused(invoke(*RUN, "--task", f"t.py:{function}"))


@pytest.mark.parametrize("task", [f"{'x' * 5000}.py:f", "a/" * 3000 + "t.py:f", f"{'x' * 300}.toml"], ids=len)
def test_a_path_too_long_for_the_system_is_refused(task: str) -> None:
    assert_refused(invoke(*RUN, *([task] if task.endswith("toml") else ["--task", task])))


@pytest.mark.parametrize("out", ["file", "file/below", "x" * 300, "a/" * 3000, "/dev/null"], ids=len)
def test_an_out_that_can_be_no_folder_is_refused_at_once(out: str) -> None:
    Path("file").write_text("mine")
    assert_refused(invoke(*LINE, "--out", out))
    assert Path("file").read_text() == "mine"
    answer = invoke("list", "--out", out)
    assert len(answer.stderr.splitlines()) == 1
    assert answer.exception is None or isinstance(answer.exception, SystemExit)


@pytest.mark.parametrize("out", ["", ".", "a b", "ünï"])
def test_an_odd_out_is_a_folder_like_any_other(out: str) -> None:
    assert invoke(*LINE, "--out", out).exit_code == 0
    assert len(list(Path(out, "noisy_line").glob("*/run.json"))) == 1
    assert invoke("list", "--out", out).exit_code == 0


@pytest.mark.parametrize(
    "file", ["", ".", "..", "runs", "no/such/a.png", "x" * 300 + ".png", "a\0.png", "/dev/full/a.png"], ids=ascii
)
def test_an_impossible_output_file_leaves_the_runs_alone(file: str) -> None:
    invoke(*LINE)
    before = sorted(map(str, Path().rglob("*")))
    for command in ("plot", "export"):
        answer = invoke(command, "runs/noisy_line", "-o", file)
        assert answer.exit_code == 2, answer.output
        assert len(answer.stderr.splitlines()) <= 2
    assert sorted(map(str, Path().rglob("*"))) == before


def test_an_argument_that_is_no_text_is_refused() -> None:
    assert_refused(invoke(*LINE, "--set", "name=" + os.fsdecode(b"\xff")))
