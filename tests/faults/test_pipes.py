"""Readers that leave, closed or full streams, and terminals of all kinds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.cells import cell_len

from tests.faults.runs_by_hand import RECORD, run_folder
from tests.processes import CLOSED, broken_pipe, fresh, gradlab, on_a_terminal, start

if TYPE_CHECKING:
    from collections.abc import Iterator

ESCAPE = "\x1b"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
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
MANY_ROWS = "".join(
    f'{{"step":{n},"update":{n},"epoch":0,"loss":{n}.5}}\n' for n in range(4000)
)  # more than a pipe holds


@pytest.fixture(autouse=True)
def _a_run() -> None:
    run_folder(RECORD | {"title": "A title"})


@pytest.fixture
def full_disk() -> Iterator[int]:
    handle = os.open("/dev/full", os.O_WRONLY)
    yield handle
    os.close(handle)


def lines_of(written: str) -> list[str]:
    """Return the lines written to a terminal, without escape codes."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written))


def width_of(written: str) -> int:
    return max(map(cell_len, lines_of(written)))


# Pipes


@pytest.mark.parametrize("command", [*COMMANDS, LINE])
def test_a_reader_that_left_ends_a_command_with_141(command: str) -> None:
    with broken_pipe() as pipe:
        ended = gradlab(*command.split(), stdout=pipe)
    assert ended.status == 141, ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_reader_may_leave_after_one_line() -> None:
    run_folder(RECORD | {"rows": 4000}, MANY_ROWS)
    reads, writes = os.pipe()
    with start("export", "runs", stdout=writes) as process:
        os.close(writes)
        with os.fdopen(reads) as pipe:
            assert pipe.readline() == "experiment,mode,seed,step,update,epoch,loss,items\n"
        ended = process.wait()
    assert (ended.status, ended.stderr) == (141, "")


@pytest.mark.parametrize("closed", [["stdout"], ["stderr"], ["stdin", "stdout", "stderr"]], ids=" ".join)
@pytest.mark.parametrize("command", ["list", "show runs", "--help"])
def test_closed_streams_are_no_fault(command: str, closed: list[str]) -> None:
    ended = gradlab(*command.split(), **dict.fromkeys(closed, CLOSED))
    assert (ended.status, ended.stderr) == (0, "")


def test_a_fresh_interpreter_bears_closed_streams() -> None:
    line = f'exec "{sys.executable}" -m gradlab list <&- >&- 2>&-'
    assert subprocess.run(["/bin/sh", "-c", line], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize("command", ["list", "list --json", "show runs", "export runs", "--help", "run --help"])
def test_a_full_disk_behind_stdout_is_an_error_of_one_line(command: str, full_disk: int) -> None:
    ended = gradlab(*command.split(), stdout=full_disk)
    assert (ended.status, ended.stderr) == (2, "Cannot write to stdout: No space left on device\n")


def test_the_log_of_a_run_with_closed_streams_holds_only_rows() -> None:
    Path("t.py").write_text(
        "import os, torch\nfrom gradlab import Task\n"
        "def loud(seed: int) -> Task:\n"
        "    def loss(model, batch):\n"
        "        for number in (1, 2):\n"
        "            os.write(number, b'noise')\n"
        "        return model(torch.ones(1, 1)).mean()\n"
        "    return Task(torch.nn.Linear(1, 1), [1, 2], loss)\n"
    )
    command = ["run", "--task", "t.py:loud", "-m", "zero_grad", "--steps", "3"]
    assert gradlab(*command, stdin=CLOSED, stdout=CLOSED, stderr=CLOSED).status == 0
    (log,) = Path("runs/loud").glob("*/metrics.jsonl")
    assert re.fullmatch(r'(\{"step":\d,"update":\d,"epoch":\d,"loss":[^}]+\}\n){3}', log.read_text())
    assert not any(b"noise" in file.read_bytes() for file in Path("runs/loud").rglob("*.json"))


def test_messages_that_cannot_be_written_do_not_end_a_run(full_disk: int) -> None:
    with broken_pipe() as pipe:
        ended = gradlab(*LINE.split(), stderr=pipe)
    assert ended.status == 0
    assert "logs: runs/noisy" in ended.stdout
    again = gradlab(*LINE.split(), stderr=full_disk)  # it reports that the run is reused
    assert (again.status, again.stdout) == (0, ended.stdout)


def test_an_error_that_cannot_be_written_keeps_its_status(full_disk: int) -> None:
    assert gradlab("show", "nowhere", stderr=full_disk).status == 2
    assert gradlab("show", "nowhere", stdout=CLOSED, stderr=CLOSED).status == 2


def test_a_closed_stderr_sends_no_message_to_stdout() -> None:
    ended = gradlab("show", "nowhere", stderr=CLOSED)
    assert (ended.status, ended.stdout) == (2, "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_an_output_without_unicode_blocks_is_no_fault(encoding: str) -> None:
    ended = fresh("show", "runs", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert (ended.status, ended.stderr) == (0, "")
    assert "zero_grad" in ended.stdout


def test_an_argument_that_is_not_utf_8_is_an_error_in_json() -> None:
    ended = fresh("show", os.fsdecode(b"\xff"), "--json")
    assert (ended.status, ended.stderr) == (2, "")
    assert set(json.loads(ended.stdout)) == {"error"}


# Terminals


def test_without_a_terminal_progress_is_plain_lines() -> None:
    ended = gradlab(*LINE.split(), TERM="xterm-256color")
    assert ended.status == 0
    assert ended.stderr.splitlines()[0] == "1/1 zero_grad seed 42: done"
    assert "logs: runs/noisy" in ended.stdout.splitlines()
    assert ESCAPE not in ended.stdout + ended.stderr
    assert not any(ESCAPE.encode() in file.read_bytes() for file in Path("runs").rglob("*.json*"))


def test_forced_colour_goes_into_a_pipe_but_no_bar_does() -> None:
    ended = gradlab(*LINE.split(), FORCE_COLOR="1")
    assert re.search(r"\x1b\[[0-9;]*m", ended.stdout)
    assert ESCAPE not in ended.stderr
    assert not any(ESCAPE.encode() in file.read_bytes() for file in Path("runs").rglob("*.json*"))


def test_the_bar_of_a_run_fits_40_columns_and_is_removed() -> None:
    ended = on_a_terminal(*LINE.split(), columns=40)
    assert ended.status == 0, ended.stdout
    assert width_of(ended.stdout) <= 40
    assert ended.stdout.index(HIDE_CURSOR) < ended.stdout.rindex(SHOW_CURSOR) < ended.stdout.index("verdict")


@pytest.mark.parametrize("columns", [20, 40])
@pytest.mark.parametrize("command", ["list", "modes", "tasks", "experiments"])
def test_lists_fit_a_narrow_terminal(command: str, columns: int) -> None:
    ended = on_a_terminal(command, columns=columns)
    assert ended.status == 0, ended.stdout
    assert width_of(ended.stdout) <= columns


@pytest.mark.parametrize("columns", [20, 40])
def test_what_show_prints_wraps_in_a_narrow_terminal(columns: int) -> None:
    ended = on_a_terminal("show", "runs", columns=columns)
    assert ended.status == 0
    assert "Traceback" not in ended.stdout


def test_a_verdict_is_coloured_on_a_terminal() -> None:
    written = on_a_terminal("show", "runs", columns=80).stdout
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m(falls|rises|flat|oscillates|diverges)", written)


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1", "TERM": "dumb"}], ids=str)
@pytest.mark.parametrize("command", ["list", "show runs", "modes", LINE])
def test_a_dumb_terminal_gets_no_escape_code(command: str, environment: dict[str, str]) -> None:
    ended = on_a_terminal(*command.split(), columns=80, **environment)
    assert ended.status == 0
    assert ESCAPE not in ended.stdout


@pytest.mark.parametrize("command", ["list", "show runs"])
def test_no_color_is_no_colour(command: str) -> None:
    ended = on_a_terminal(*command.split(), columns=80, NO_COLOR="1")
    assert "zero_grad" in ended.stdout
    assert not re.search(r"\x1b\[[0-9;]*[34][0-9]m", ended.stdout)
