"""Signals: the first stops a run between two steps and leaves a checkpoint; a second one ends the process."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gradlab.store import RunFolder
from tests.processes import gradlab, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Process

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
BLOCKING = """
import time
from gradlab.tasks import noisy_line, Task

def block():
    open("blocked", "w").close()
    time.sleep(3600)

def while_building(seed):
    block()

def in_a_step(seed):
    made = noisy_line(seed)
    return Task(made.model, made.batches, lambda model, batch: block())
"""


@pytest.fixture
def training() -> Iterator[Process]:
    """Start an endless run and wait for its first rows."""
    with start(
        "run", "--task", "noisy_line", "--set", "name=line", "--steps", "1000000000", "-m", "zero_grad"
    ) as process:
        process.wait_for(lambda: any(file.stat().st_size for file in Path("runs").glob("line/*/metrics.jsonl")))
        yield process


def blocked(function: str) -> Process:
    """Start a run that blocks in this function of BLOCKING, and wait until it does."""
    Path("mine.py").write_text(BLOCKING)
    process = start("run", "--task", f"mine.py:{function}")
    process.wait_for(Path("blocked").exists)
    return process


def only_record() -> Any:
    (file,) = Path("runs").glob("*/*/run.json")
    return json.loads(file.read_text())


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_the_first_signal_writes_a_checkpoint(training: Process, number: signal.Signals, status: int) -> None:
    training.send(number)
    ended = training.wait()
    assert ended.status == status
    assert re.search(r"stopped after \d+ steps; the same command continues from there", ended.stderr)
    assert "Traceback" not in ended.stderr
    assert list(Path("runs").glob("*/*/checkpoint-*.pt"))
    assert only_record()["status"] == "interrupted"
    (rows,) = Path("runs").glob("*/*/metrics.jsonl")
    assert rows.read_bytes().endswith(b"}\n")
    assert not list(Path("runs").rglob("*.new"))


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_second_signal_ends_an_endless_step(number: signal.Signals, status: int) -> None:
    with blocked("in_a_step") as process:
        process.send(number)
        with pytest.raises(TimeoutError):
            process.wait(0.3)
        process.send(number)
        assert process.wait(10).status == status
    assert RunFolder(next(Path("runs").glob("*/*/"))).read().status == "interrupted"


def test_a_signal_before_the_first_step_ends_in_one_line() -> None:
    with blocked("while_building") as process:
        process.send(signal.SIGTERM)
        ended = process.wait()
    assert (ended.status, ended.stderr) == (143, "Stopped. Run the same command to continue.\n")


def test_the_rows_of_a_killed_run_can_be_exported(training: Process) -> None:
    training.send(signal.SIGKILL)
    training.wait()
    assert only_record()["status"] == "running"
    exported = gradlab("export", "runs/line")
    assert (exported.status, exported.stderr) == (0, "")
    assert len(exported.stdout.splitlines()) > 1
