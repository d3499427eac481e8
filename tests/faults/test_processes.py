"""Processes that end without a word, that write one run together, or that only look: real ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tests
from gradlab import experiment, runs
from gradlab.errors import StoreError, TaskError
from gradlab.experiment import Override
from gradlab.store import RunFolder, RunRecord, make_run
from tests.faults.table import injected

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 100.0  # seconds: only what is broken takes as long
# It waits at its fifth step for a file named go, and calls `first` before that where there is no file named been.
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
        time.sleep(1)  # so that the rows before are written
        {first}
    while not Path("go").exists():
        time.sleep(0.01)
"""
COMMAND = ["run", "--task", "mine.py:mine", "-m", "zero_grad", "--steps", "8", "--quiet"]
ENVIRONMENT = {"PYTHONPATH": str(Path(tests.__file__).parents[1])}
ENDINGS = ["os._exit(0)", "os.abort()", "ctypes.string_at(0)", "os.kill(os.getpid(), signal.SIGKILL)"]
IN_CHILDREN = """
import json, sys
from pathlib import Path
from tests.faults.injecting import train_here, train_in_a_child
words = sys.argv[2:]
Path("undisturbed/go").touch()
train_here(Path("undisturbed"), words)
for folder in sys.argv[1].split(","):
    print(json.dumps(train_in_a_child(Path(folder), None, words)), flush=True)
"""


@contextmanager
def waiting(first: str = "pass") -> Iterator[subprocess.Popen[bytes]]:
    """Start a run that stands at its fifth step until there is a file named go."""
    Path("mine.py").write_text(MINE.replace("{first}", first))
    command = [sys.executable, "-m", "gradlab", *COMMAND]
    process = subprocess.Popen(command, env=os.environ | ENVIRONMENT, stdout=subprocess.DEVNULL)
    try:
        due = time.monotonic() + PATIENCE
        while not any(file.read_bytes().count(b"\n") == 4 for file in Path("runs").glob("*/*/metrics.jsonl")):
            assert process.poll() is None
            assert time.monotonic() < due
            time.sleep(0.02)
        yield process
    finally:
        process.kill()
        process.wait()


def same_command() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gradlab", *COMMAND], env=os.environ | ENVIRONMENT, capture_output=True, text=True,
        check=False, timeout=PATIENCE,
    )  # fmt: skip


def only_run() -> RunFolder:
    (file,) = Path("runs").glob("*/*/run.json")
    return RunFolder(file.parent)


def test_a_second_writer_exits_2_and_names_the_first_and_the_lock_of_a_killed_one_is_free_at_once() -> None:
    with waiting() as process:
        assert only_run().read().status == "running"
        before = only_run().rows_file.read_bytes()
        second = same_command()
        assert second.returncode == 2
        assert f"is being written by another gradlab: process {process.pid} on " in second.stderr
        assert second.stderr.count("\n") == 1
        assert only_run().rows_file.read_bytes() == before
        process.kill()
        process.wait()
        assert only_run().read().status == "interrupted"
        assert only_run().rows_file.read_bytes() == before
        Path("go").touch()
        third = same_command()
    assert (third.returncode, third.stderr) == (0, "")
    assert only_run().read().status == "done"
    assert only_run().rows_file.read_bytes().startswith(before)
    injected("second writer", 1)
    injected("killed owner of a lock", 1)


def test_a_child_that_a_killed_process_leaves_behind_does_not_keep_its_lock() -> None:
    folder = RunFolder(Path("run"))
    make_run(folder)
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
        os.kill(child, 0)  # it lives
        folder.log().let_go()
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(reads)
        os.close(writes)
    injected("forked child with the lock", 1)


def test_a_reader_of_the_status_never_keeps_a_writer_from_starting() -> None:
    folder = RunFolder(Path("run"))
    make_run(folder)
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
    for name, first in [("undisturbed", "pass"), *((f"{nth}", ending) for nth, ending in enumerate(ENDINGS))]:
        Path(name).mkdir()
        Path(name, "mine.py").write_text(MINE.replace("{first}", first))
    names = [f"{nth}" for nth in range(len(ENDINGS))]
    answer = subprocess.run(
        [sys.executable, "-c", IN_CHILDREN, ",".join(names), *COMMAND], env=os.environ | ENVIRONMENT,
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    statuses = [json.loads(line)[0] for line in answer.stdout.splitlines()]
    assert statuses == [0, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL]
    (undisturbed,) = Path("undisturbed").glob("runs/*/*/metrics.jsonl")
    for name in names:
        (file,) = Path(name).glob("runs/*/*/run.json")
        run = RunFolder(file.parent)
        assert run.read().status == "interrupted"
        assert undisturbed.read_bytes().startswith(run.rows_file.read_bytes())
        assert run.whole_rows() == 4
    injected("user's code ends the process", len(names))


def test_a_record_that_cannot_be_written_does_not_hide_what_ended_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
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
    injected("record lost at the end", len(endings))
