"""Readers that leave, streams that are closed or full, and terminals of all kinds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.faults.processes import gradlab, shell
from tests.faults.runs_by_hand import RECORD, run_folder
from tests.terminals import on_a_terminal

ESCAPE = "\x1b"
COMMANDS = [
    "modes",
    "tasks --json",
    "experiments",
    "experiments diverging_loss",
    "list",
    "list --json",
    "show runs",
    "export runs",
    "--help",
    "run --help",
    "plot runs -o a.svg",
]
LINE = "run --task noisy_line --steps 3 --set name=noisy -m zero_grad"


@pytest.fixture(autouse=True)
def _a_run() -> None:
    run_folder(RECORD | {"title": "A title"})


@pytest.mark.parametrize("command", [*COMMANDS, LINE])
def test_a_reader_that_has_left_ends_a_command_quietly_with_141(command: str) -> None:
    # what follows the pipe is gone long before Python has started
    ended = shell(f"set -o pipefail; $G {command} | exec true; exit ${{PIPESTATUS[0]}}")
    assert ended.status == 141, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


@pytest.mark.parametrize("command", ["export runs", "list --json"])
def test_head_takes_its_line_and_is_content(command: str) -> None:
    ended = shell(f"$G {command} | head -1; exit ${{PIPESTATUS[0]}}")
    assert ended.status in (0, 141)  # little output may fit the pipe before head goes
    assert len(ended.stdout.splitlines()) == 1
    assert ended.stderr == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["list", "show runs", "--help"])
def test_closed_streams_are_no_fault(command: str, closed: str) -> None:
    ended = shell(f"$G {command} {closed}")
    assert (ended.status, ended.stderr) == (0, "")


@pytest.mark.parametrize("command", ["list", "list --json", "show runs", "export runs", "--help", "run --help"])
def test_a_full_disk_behind_stdout_is_told_in_a_line_with_status_2(command: str) -> None:
    ended = shell(f"$G {command} > /dev/full")
    assert (ended.status, ended.stderr) == (2, "standard output: No space left on device\n")


def test_the_log_of_a_run_with_closed_streams_holds_its_rows_alone() -> None:
    Path("t.py").write_text(
        "import os, torch\nfrom gradlab import Task\n"
        "def loud(seed: int) -> Task:\n"
        "    def loss(model, batch):\n"
        "        for number in (1, 2):\n"
        "            os.write(number, b'noise')\n"
        "        return model(torch.ones(1, 1)).mean()\n"
        "    return Task(torch.nn.Linear(1, 1), [1, 2], loss)\n"
    )
    ended = shell("$G run --task t.py:loud -m zero_grad --steps 3 <&- >&- 2>&-")
    assert ended.status == 0
    (log,) = Path("runs/loud").glob("*/metrics.jsonl")
    assert re.fullmatch(r'(\{"step":\d,"update":\d,"epoch":\d,"loss":[^}]+\}\n){3}', log.read_text())
    assert not any(b"noise" in file.read_bytes() for file in Path("runs/loud").rglob("*.json"))


def test_talk_that_nobody_hears_does_not_end_a_run() -> None:
    ended = shell(f"$G {LINE} 2> >(exec true)")
    assert ended.status == 0
    assert "logs: runs/noisy" in ended.stdout
    again = shell(f"$G {LINE} 2> /dev/full")  # it says that all was done before
    assert (again.status, again.stdout) == (0, ended.stdout)


def test_an_error_that_nobody_hears_keeps_its_status() -> None:
    assert shell("$G show nowhere 2> /dev/full").status == 2
    assert shell("$G show nowhere >&- 2>&-").status == 2


def test_without_a_terminal_nothing_written_has_an_escape_code() -> None:
    ended = gradlab(*LINE.split(), TERM="xterm-256color")
    assert ended.status == 0
    assert "1/1 zero_grad seed 42: done" in ended.stderr
    assert ESCAPE not in ended.stdout + ended.stderr
    assert not any(ESCAPE.encode() in file.read_bytes() for file in Path("runs").rglob("*.json*"))


def test_colour_that_is_forced_goes_into_a_pipe_but_no_bar_does() -> None:
    ended = gradlab(*LINE.split(), FORCE_COLOR="1")
    assert re.search(r"\x1b\[[0-9;]*m", ended.stdout)
    assert ESCAPE not in ended.stderr
    assert not any(ESCAPE.encode() in file.read_bytes() for file in Path("runs").rglob("*.json*"))


@pytest.mark.parametrize("columns", [20, 40])
@pytest.mark.parametrize("command", ["list", "show runs"])
def test_a_narrow_terminal_is_no_fault(command: str, columns: int) -> None:
    status, written = on_a_terminal(*command.split(), columns=columns)
    assert status == 0
    assert "Traceback" not in written
    if command == "list":  # of what `show` prints, settings wrap as the terminal has it
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
        assert max(map(cell_len, re.split(r"[\r\n]+", plain))) <= columns


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1", "TERM": "dumb"}], ids=str)
def test_a_dumb_terminal_gets_no_escape_code(environment: dict[str, str]) -> None:
    for command in ("list", "show runs", "modes"):
        status, written = on_a_terminal(*command.split(), columns=80, **environment)
        assert status == 0
        assert ESCAPE not in written


def test_no_color_is_no_colour() -> None:
    _, written = on_a_terminal("list", columns=80, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*[34][0-9]m", written)
