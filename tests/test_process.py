"""gradlab as a process: signals, pipes, terminals, and what it does without any."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.cells import cell_len

import gradlab
from gradlab.store import RunFolder
from tests.terminals import on_a_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

GRADLAB = [sys.executable, "-m", "gradlab"]
# Whoever starts the tests in the background may have switched SIGINT off for all that they start.
LISTENING = [
    sys.executable, "-c",
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from gradlab.cli import main; main()",
]  # fmt: skip
LINE = ["run", "--task", "noisy_line", "--set", "name=line", "--steps", "40"]
ENDLESS = ["run", "--task", "noisy_line", "--set", "name=line", "--steps", "1000000000", "-m", "zero_grad"]
PATIENCE = 60.0  # seconds: only a broken gradlab takes as long
ESCAPE = "\x1b"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def gradlab_(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run gradlab to its end, in the current folder and without a terminal."""
    return subprocess.run(
        [*GRADLAB, *arguments], env=os.environ | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of runs of three modes, 400 rows each: more than a pipe holds."""
    out = tmp_path_factory.mktemp("trained") / "runs"
    answer = gradlab_("run", "--steps", "400", "--quiet", "--out", str(out))
    assert answer.returncode == 0, answer.stderr
    return out


@pytest.fixture
def training() -> Iterator[subprocess.Popen[str]]:
    """Start an endless run, wait for its first rows, and see to it that it ends."""
    process = subprocess.Popen([*LISTENING, *ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        due = time.monotonic() + PATIENCE
        while not any(file.stat().st_size for file in Path("runs").glob("line/*/metrics.jsonl")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < due, "no row after a minute"
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


def only_record() -> Any:
    (file,) = Path("runs").glob("*/*/run.json")
    return json.loads(file.read_text())


def lines_of(written: str) -> list[str]:
    """Return what stood on the lines of a terminal, one after the other, without escape codes."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written))


# Signals


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_training_writes_a_checkpoint_and_says_how_to_go_on(
    training: subprocess.Popen[str], number: signal.Signals, status: int
) -> None:
    training.send_signal(number)
    _, stderr = training.communicate(timeout=PATIENCE)
    assert training.returncode == status
    assert re.search(r"stopped after \d+ steps; the same command goes on from there", stderr)
    assert "Traceback" not in stderr
    assert list(Path("runs").glob("*/*/checkpoint-*.pt"))
    assert only_record()["status"] == "interrupted"
    (rows,) = Path("runs").glob("*/*/metrics.jsonl")
    assert rows.read_bytes().endswith(b"}\n")
    assert not list(Path("runs").rglob("*.new"))


SLOW = """
import time
from gradlab.tasks import noisy_line, Task

def slow(seed):
    made = noisy_line(seed)

    def loss(model, batch):
        open("step", "w").close()
        time.sleep(3600)

    return Task(made.model, made.batches, loss)
"""


@contextmanager
def standing(task: str) -> Iterator[subprocess.Popen[str]]:
    """Start a run of this task, wait until it stands still, and see to it that it ends."""
    Path("mine.py").write_text(task)
    process = subprocess.Popen([*LISTENING, "run", "--task", "mine.py:slow"], stderr=subprocess.PIPE, text=True)
    try:
        due = time.monotonic() + PATIENCE
        while not Path("step").exists():
            assert time.monotonic() < due
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_a_step_without_end_at_once(number: signal.Signals, status: int) -> None:
    with standing(SLOW) as process:
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(number)
        assert process.wait(10) == status
    assert RunFolder(next(Path("runs").glob("*/*/"))).read().status == "interrupted"


def test_a_signal_before_the_first_step_ends_in_a_line_with_its_status() -> None:
    building = "    open('step', 'w').close()\n    time.sleep(3600)"
    with standing(SLOW.replace("    made = noisy_line(seed)", building)) as process:
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=PATIENCE)
    assert (process.returncode, told) == (143, "stopped; the same command trains what is missing\n")


def test_a_run_that_was_killed_can_be_exported_as_far_as_it_came(
    training: subprocess.Popen[str],
) -> None:
    training.kill()
    training.wait()
    assert only_record()["status"] == "running"
    answer = gradlab_("export", "runs/line")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert len(answer.stdout.splitlines()) > 1


# Pipes


@pytest.mark.parametrize("command", [["export"], ["show", "--json"]])
def test_a_reader_that_leaves_early_is_no_traceback(trained: Path, command: list[str]) -> None:
    process = subprocess.Popen([*GRADLAB, *command, str(trained)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(PATIENCE) in (0, 1, 141)


@pytest.mark.parametrize("command", ["modes", "export", "show", "list"])
def test_a_closed_stdout_is_no_traceback(trained: Path, command: str) -> None:
    arguments = {"modes": "", "list": f"--out {trained}"}.get(command, str(trained))
    answer = subprocess.run(
        ["/bin/sh", "-c", f'exec "{sys.executable}" -m gradlab {command} {arguments} >&-'],
        stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert "Traceback" not in answer.stderr
    assert "Error" not in answer.stderr


@pytest.mark.parametrize("command", [["modes"], ["export"], ["show"]])
def test_a_disk_that_is_full_is_told_in_a_line_with_status_2(trained: Path, command: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(
            [*GRADLAB, *command, *([] if command == ["modes"] else [str(trained)])],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    assert answer.returncode == 2
    assert "No space left on device" in answer.stderr
    assert len(answer.stderr.splitlines()) <= 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_an_output_without_blocks_of_unicode_is_no_traceback(trained: Path, encoding: str) -> None:
    answer = gradlab_("show", str(trained), PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "no_zero_grad" in answer.stdout


def test_an_argument_that_is_not_utf_8_is_a_fault_in_json_too() -> None:
    answer = subprocess.run(
        [*map(os.fsencode, GRADLAB), b"show", b"\xff", b"--json"], capture_output=True, timeout=PATIENCE, check=False
    )
    assert answer.returncode == 2
    assert answer.stderr == b""
    assert set(json.loads(answer.stdout)) == {"error"}


# Terminals


def test_without_a_terminal_progress_is_plain_lines_on_stderr() -> None:
    answer = gradlab_(*LINE)
    assert answer.returncode == 0
    assert answer.stderr.splitlines()[0] == "1/3 zero_grad seed 42: done"
    assert "logs: runs/line" in answer.stdout.splitlines()
    assert ESCAPE not in answer.stdout + answer.stderr


def test_on_a_terminal_of_40_columns_no_line_is_wider_and_the_bar_goes_when_it_is_done() -> None:
    status, written = on_a_terminal(*LINE, columns=40)
    assert status == 0, written
    assert "Traceback" not in written
    assert "no_zero_grad" in written
    assert max(map(cell_len, lines_of(written))) <= 40
    assert written.index(HIDE_CURSOR) < written.rindex(SHOW_CURSOR) < written.index("verdict")


@pytest.mark.parametrize("command", ["modes", "tasks", "experiments", "list"])
def test_on_a_narrow_terminal_lists_are_no_wider_than_it(trained: Path, command: str) -> None:
    more = ["--out", str(trained)] if command == "list" else []
    status, written = on_a_terminal(command, *more, columns=40)
    assert status == 0, written
    assert max(map(cell_len, lines_of(written))) <= 40


def test_a_verdict_is_coloured_on_a_terminal(trained: Path) -> None:
    _, written = on_a_terminal("show", str(trained), columns=80)
    assert re.search(r"\x1b\[[0-9;]*3[0-9]m(falls|rises|flat|oscillates|diverges)", written)


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_no_color_and_a_dumb_terminal_see_no_colour(trained: Path, environment: dict[str, str]) -> None:
    status, written = on_a_terminal("show", str(trained), columns=80, **environment)
    assert status == 0
    assert "no_zero_grad" in written
    assert not re.search(r"\x1b\[[0-9;]*[34][0-9]m", written)


def test_a_dumb_terminal_sees_no_escape_codes_while_training() -> None:
    status, written = on_a_terminal(*LINE, columns=80, TERM="dumb")
    assert status == 0
    assert "logs: runs/line" in written
    assert ESCAPE not in written


# Starting


def test_the_command_is_the_module() -> None:
    script = Path(sys.executable).with_name("gradlab")
    assert script.is_file(), "the tests run where gradlab is installed: make install"
    for start in ([str(script)], GRADLAB):
        answer = subprocess.run([*start, "modes", "--json"], capture_output=True, timeout=PATIENCE, check=True)
        assert json.loads(answer.stdout)["modes"][0]["name"] == "zero_grad"


def test_the_version_is_printed_and_nothing_else() -> None:
    answer = gradlab_("--version")
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, f"gradlab {gradlab.__version__}\n", "")


def imported_by(*arguments: str) -> set[str]:
    """Return the names of all modules that gradlab imports for these arguments."""
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", *GRADLAB[1:], *arguments], capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    told = [line for line in answer.stderr.splitlines() if line.startswith("import time")]
    return {line.rpartition("|")[2].strip() for line in told}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"], ["run", "--help"], ["modes"], ["tasks"], ["experiments"], ["run", "--lr", "-1"],
        ["run", "-m", "hlve_grad"], ["run", "--optimizer", "sdg"], ["run", "--set", "optimizer.momentumm=1"],
        ["show", "TRAINED"], ["list", "--out", "TRAINED"], ["export", "TRAINED"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_only_reads_lists_or_fails_imports_no_heavy_library(trained: Path, arguments: list[str]) -> None:
    imported = imported_by(*(str(trained) if each == "TRAINED" else each for each in arguments))
    assert "gradlab.cli" in imported
    assert not imported & {"torch", "numpy", "matplotlib", "sklearn"}


def test_plotting_imports_neither_torch_nor_pyplot(trained: Path) -> None:
    imported = imported_by("plot", str(trained), "-o", "a.png")
    assert "matplotlib.figure" in imported
    assert not imported & {"torch", "matplotlib.pyplot"}
