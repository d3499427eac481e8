"""Locks where there is no fcntl: as on Windows by msvcrt, and on platforms that have neither."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tests
from gradlab.errors import StoreError
from gradlab.rows import Row
from gradlab.store import RunFolder, RunRecord, SweepFolder
from tests.windows import hide_fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNNING = RunRecord("line", "zero_grad", 1, "abc", {}, "running")
WRITER = """
import time
from pathlib import Path
from gradlab.store import RunFolder, RunRecord
from tests.windows import hide_fcntl
hide_fcntl()
with RunFolder(Path("run")).log():
    RunFolder(Path("run")).write(RunRecord("line", "zero_grad", 1, "abc", {}, "running"))
    print("locked", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def _windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fcntl", "msvcrt"):
        monkeypatch.setitem(sys.modules, name, None)  # so that what comes is undone
    hide_fcntl()


@pytest.fixture
def run() -> RunFolder:
    folder = RunFolder(Path("run"))
    folder.make()
    return folder


@contextmanager
def writer() -> Iterator[subprocess.Popen[str]]:
    """Start a process that writes the run, on Windows too, and wait until it has the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER], env={"PYTHONPATH": str(Path(tests.__file__).parents[1])},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()


@pytest.mark.usefixtures("_windows")
def test_a_second_writer_is_refused_and_named_on_windows(run: RunFolder) -> None:
    with writer() as process, pytest.raises(StoreError, match=rf"another gradlab: process {process.pid} on "):
        run.log()


@pytest.mark.usefixtures("_windows")
def test_on_windows_a_run_is_running_while_its_process_lives(run: RunFolder) -> None:
    with writer() as process:
        assert run.read().status == "running"
        process.kill()
        process.wait()
        assert run.read().status == "interrupted"
        with run.log():
            pass


@pytest.mark.usefixtures("_windows")
def test_rows_are_kept_and_appended_on_windows(run: RunFolder) -> None:
    rows = [Row(step, step, 0, 1.0) for step in range(3)]
    for keep in (0, 2):
        with run.log(keep) as log:
            for row in rows[keep:]:
                log.append(row)
    assert run.rows().rows == rows


@pytest.mark.usefixtures("_windows")
def test_readers_at_once_do_not_pass_for_a_writer_on_windows(run: RunFolder) -> None:
    run.rows_file.touch()
    run.write(RUNNING)
    found: list[str] = []
    readers = [threading.Thread(target=lambda: found.extend(run.read().status for _ in range(20))) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert found == ["interrupted"] * 80


@pytest.mark.usefixtures("_windows")
def test_a_second_writer_of_a_sweep_is_refused_on_windows() -> None:
    sweep = SweepFolder(Path("sweep"))
    sweep.make()
    with sweep.log(), pytest.raises(StoreError, match=r"results\.jsonl is being written by another gradlab"):
        sweep.log()


def test_a_platform_without_locks_says_so(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.write(RUNNING)
    for name in ("fcntl", "msvcrt"):
        monkeypatch.setitem(sys.modules, name, None)
    for use in (run.log, run.read):
        with pytest.raises(StoreError, match="this platform cannot lock files"):
            use()
    run.write(replace(RUNNING, status="done"))
    assert run.read().status == "done"
