"""Real processes that die, write one run together, or only read."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

import tests
from gradlab import experiment, runs
from gradlab.cli import app
from gradlab.errors import StoreError, TaskError
from gradlab.experiment import Override
from gradlab.store import RunFolder, RunRecord
from tests.faults.table import injected
from tests.processes import PATIENCE, gradlab, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Process

# Waits at its fifth step for the file "go". Before that it runs {first}, unless the file "been" exists.
MINE = """
import ctypes, os, signal, time
from pathlib import Path
import torch
from gradlab import Task

def mine(seed: int) -> Task:
    model = torch.nn.Linear(1, 1)
    batches = [(torch.randn(3, 1), torch.randn(3, 1)) for _ in range(8)]
    seen = []
    def loss(prediction, target):
        seen.append(1)
        if len(seen) == 5:
            meet()
        return torch.nn.functional.mse_loss(prediction, target)
    return Task.supervised(model, batches, loss)

def meet():
    if not Path("been").exists():
        Path("been").touch()
        while not any(file.read_bytes().count(b"\\n") == 4 for file in Path("runs").glob("*/*/metrics.jsonl")):
            time.sleep(0.01)
        {first}
    while not Path("go").exists():
        time.sleep(0.01)
"""
COMMAND = ["run", "--task", "mine.py:mine", "-m", "zero_grad", "--steps", "8", "--quiet"]
ENVIRONMENT = {"PYTHONPATH": str(Path(tests.__file__).parents[1])}
ENDINGS = ["os._exit(0)", "os.abort()", "ctypes.string_at(0)", "os.kill(os.getpid(), signal.SIGKILL)"]


@contextmanager
def waiting() -> Iterator[Process]:
    """Start a run that waits at its fifth step for the file "go"."""
    Path("mine.py").write_text(MINE.replace("{first}", "pass"))
    with start(*COMMAND) as process:
        process.wait_for(
            lambda: any(file.read_bytes().count(b"\n") == 4 for file in Path("runs").glob("*/*/metrics.jsonl"))
        )
        yield process


def only_run() -> RunFolder:
    (file,) = Path("runs").glob("*/*/run.json")
    return RunFolder(file.parent)


def test_a_second_writer_exits_2_until_the_first_is_killed() -> None:
    with waiting() as process:
        assert only_run().read().status == "running"
        before = only_run().rows_file.read_bytes()
        second = gradlab(*COMMAND)
        assert second.status == 2
        assert f"is being written by another gradlab: process {process.pid} on " in second.stderr
        assert second.stderr.count("\n") == 1
        assert only_run().rows_file.read_bytes() == before
        process.send(signal.SIGKILL)
        process.wait()
        assert only_run().read().status == "interrupted"
        assert only_run().rows_file.read_bytes() == before
        Path("go").touch()
        third = gradlab(*COMMAND)
    assert (third.status, third.stderr) == (0, "")
    assert only_run().read().status == "done"
    assert only_run().rows_file.read_bytes().startswith(before)
    injected("second writer", 1)
    injected("killed owner of a lock", 1)


@pytest.mark.slow
def test_runs_started_at_once_in_one_folder_are_all_seen() -> None:
    command = ["run", "--task", "noisy_line", "-m", "zero_grad", "--optimizer", "vanilla", "--steps", "2", "--quiet"]
    seeds = [str(seed) for seed in range(8)]
    for out in "1234":
        with ExitStack() as stack:
            processes = [stack.enter_context(start(*command, "--seed", seed, "--out", out)) for seed in seeds]
            ended = [process.wait() for process in processes]
        assert [(each.status, each.stderr) for each in ended] == [(0, "")] * len(seeds)
        exported = CliRunner().invoke(app, ["export", out])
        assert [row["seed"] for row in csv.DictReader(exported.stdout.splitlines())] == sorted(seeds * 2)
        assert exported.stderr == ""
        drawn = CliRunner().invoke(app, ["plot", out, "-o", "a.svg"])
        assert (drawn.exit_code, drawn.stdout, drawn.stderr) == (0, "a.svg\n", "")
        assert "median and range of 8 seeds" in Path("a.svg").read_text()
        assert len(json.loads(CliRunner().invoke(app, ["show", out, "--json"]).stdout)["runs"]) == len(seeds)
    injected("concurrent writers in one folder", 4 * len(seeds))


def test_a_child_left_by_a_killed_process_keeps_no_lock() -> None:
    folder = RunFolder(Path("run"))
    folder.make()
    reads, writes = os.pipe()
    script = (
        "import os, signal, sys, time\nfrom pathlib import Path\nfrom gradlab.store import RunFolder\n"
        "log = RunFolder(Path('run')).log()\n"
        "if not (child := os.fork()):\n    time.sleep(60)\n    os._exit(0)\n"
        "os.write(int(sys.argv[1]), str(child).encode())\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(writes)], env=os.environ | ENVIRONMENT,
                               pass_fds=[writes])  # fmt: skip
    child = int(os.read(reads, 20))
    try:
        assert process.wait(PATIENCE) == -signal.SIGKILL
        os.kill(child, 0)  # it is alive
        folder.log().close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(reads)
        os.close(writes)
    injected("forked child with the lock", 1)


def test_a_reader_of_the_status_never_blocks_a_writer() -> None:
    folder = RunFolder(Path("run"))
    folder.make()
    folder.rows_file.touch()
    folder.write(RunRecord("line", "zero_grad", 1, "abc", {}, "running"))
    ended = threading.Event()
    asked: list[str] = []

    def ask() -> None:
        while not ended.is_set():
            asked.append(folder.read().status)

    readers = [threading.Thread(target=ask) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(50):
            with folder.log():
                pass
    finally:
        ended.set()
        for reader in readers:
            reader.join()
    assert set(asked) <= {"running", "interrupted"}
    assert len(asked) > 50
    injected("readers of the lock", 50)


def test_a_task_that_ends_the_process_is_never_counted_as_done() -> None:
    statuses, rows = [], []
    for first in ENDINGS:
        Path("mine.py").write_text(MINE.replace("{first}", first))
        Path("been").unlink(missing_ok=True)
        statuses.append(gradlab(*COMMAND, "--fresh").status)
        assert only_run().read().status == "interrupted"
        assert only_run().whole_rows() == 4
        rows.append(only_run().rows_file.read_bytes())
        only_run().path.rename(f"{len(rows)}")
    assert statuses == [0, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL]
    Path("go").touch()
    assert gradlab(*COMMAND).status == 0
    assert all(only_run().rows_file.read_bytes().startswith(each) for each in rows)
    injected("user code ends the process", len(rows))


def test_an_unwritable_record_does_not_hide_what_ended_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    write = RunFolder.write

    def full(self: RunFolder, record: RunRecord) -> None:
        if record.status != "running":
            raise StoreError("run.json cannot be written: No space left on device")
        write(self, record)

    monkeypatch.setattr(RunFolder, "write", full)
    endings: list[tuple[str, type[BaseException], str]] = [
        ("raise KeyboardInterrupt(1)", KeyboardInterrupt, "1"),
        ("return None", TaskError, "returned None"),
        ("1 / 0", StoreError, r"run\.json cannot be written: .*\nbefore that the run failed: ZeroDivisionError"),
        ("pass", StoreError, r"run\.json cannot be written: No space left on device$"),
    ]
    for nth, (first, error, message) in enumerate(endings):
        task = Path(f"task{nth}.py")
        task.write_text(MINE.replace("    seen = []", f"    {first}\n    seen = []"))
        Path("been").touch()
        Path("go").touch()
        overrides = [Override((key,), value, "") for key, value in {"steps": 2, "modes": ["zero_grad"]}.items()]
        with pytest.raises(error, match=message):
            runs.run(experiment.from_task(f"{task}:mine", overrides))
    assert {RunFolder(file.parent).read().status for file in Path("runs").glob("*/*/run.json")} == {"interrupted"}
    injected("unwritable final record", len(endings))
