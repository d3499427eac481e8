"""Sweeps that are killed or damaged, have a second writer, or lose a worker."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tests
from gradlab import store
from gradlab import sweeps as sweep
from gradlab.errors import StoreError
from gradlab.experiment import Override, from_task
from gradlab.store import Block, SweepFolder, SweepRecord
from gradlab.store.sweeps import block_line
from gradlab.sweeps import grid_of, stacked
from gradlab.sweeps import workers as processes
from tests.faults.injecting import path_of
from tests.faults.table_sweeps import FAULTS
from tests.processes import PATIENCE, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.sweeps import Grid
    from tests.processes import Process

MINE = """
import os, signal, time
from pathlib import Path
import torch
from gradlab import Task

def mine(seed: int) -> Task:
    {build}
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(6, 1, generator=generator)
    model = torch.nn.Linear(1, 1)
    steps = []

    def loss(model, batch):
        steps.append(1)
        if len(steps) == 5:
            meet(seed)
        return model(batch).pow(2).mean()

    return Task(model, [x], loss)

def meet(seed):
    {meet}
"""
WAITS = """
    while seed == 2 and not Path("go").exists():
        Path(f"been{os.getpid()}").touch()
        time.sleep(0.01)
"""
KILLED = """if seed == 3 or not Path("been").exists():
        if seed == 1:
            Path("been").touch()
        os.kill(os.getpid(), signal.SIGKILL)
"""
COMMAND = ["sweep", "--task", "mine.py:mine", "--vary", "lr=0.01,0.1", "-m", "zero_grad", "--steps", "8", "--quiet",
           "--seeds", "4", "--engine", "loop"]  # fmt: skip
ENVIRONMENT = {"PYTHONPATH": str(Path(tests.__file__).parents[1])}
BLOCK = Block(
    "loop", [4, 6], ["done", "failed"], ["falls", None], [8, 3], [1.5, float("inf")], [0.1, float("nan")],
    [0.1, None], ["", "ZeroDivisionError: division by zero"],
)  # fmt: skip
RECORD = SweepRecord("line", "abc", {"task": "noisy_line"}, [{"key": "lr", "values": [0.1, 0.2], "log": False}],
                     ["zero_grad"], [1, 2], 8, "loop", 4, "done")  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
_TIMES = {fault.name: fault.times for fault in FAULTS}


def injected(name: str, times: int) -> None:
    assert times >= _TIMES[name], f"{name}: injected {times} times; the table states {_TIMES[name]}"


def grid(meet: str, build: str = "pass", seeds: tuple[int, ...] = (0, 1, 2, 3)) -> Grid:
    Path("mine.py").write_text(MINE.replace("{meet}", meet.strip()).replace("{build}", build))
    values: dict[str, Any] = {"modes": ["zero_grad"], "steps": 8, "seeds": list(seeds)}
    return grid_of(from_task("mine.py:mine", [Override((key,), value, "") for key, value in values.items()]),
                   ["lr=0.01,0.1"], engine="loop")  # fmt: skip


def lines(folder: SweepFolder) -> list[bytes]:
    return sorted(folder.results_file.read_bytes().splitlines())


@contextmanager
def waiting(workers: str) -> Iterator[Process]:
    """Start a sweep whose seed 2 waits at its fifth step for the file "go"."""
    with start(*COMMAND, "--workers", workers) as process:
        process.wait_for(lambda: list(Path().glob("been*")))
        yield process


def test_a_killed_sweep_resumes_to_the_undisturbed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked, "LOOP_CHUNK", 8)
    chosen = grid(WAITS)
    Path("go").touch()
    undisturbed = sweep.run(chosen, Path("undisturbed"), workers=1)
    Path("go").unlink()
    with waiting("1") as process:
        folder = store.newest_sweep(Path("runs"))
        assert folder
        assert folder.read().status == "running"
        message = re.escape(f"is being written by another gradlab: process {process.pid} on ")
        with pytest.raises(StoreError, match=message):
            sweep.run(chosen, workers=1)
        process.send(signal.SIGKILL)
        process.wait()
    assert folder.read().status == "interrupted"
    Path("go").touch()
    again = sweep.run(chosen, workers=1)
    assert again.folder == folder
    assert lines(folder) == lines(undisturbed.folder)
    injected("SIGKILL during a sweep", 1)
    injected("second writer of a sweep", 1)


def test_stacked_cells_resume_bit_for_bit_from_any_cut() -> None:
    values: dict[str, Any] = {"steps": 12, "seeds": [0, 1]}
    made = from_task("noisy_line", [Override((key,), value, "") for key, value in values.items()])
    chosen = grid_of(made, ["lr=0.01,0.1", "keep=0:1:3"])
    undisturbed = sweep.run(chosen, Path("undisturbed"), workers=1, chunk=4).folder
    whole = undisturbed.results_file.read_bytes().splitlines(keepends=True)
    assert [b'"engine":"ensemble"' in line for line in whole] == [True] * 4
    for kept in (1, 3):
        folder = SweepFolder(Path("runs") / "noisy_line" / undisturbed.path.name)
        folder.make()
        folder.write(replace(undisturbed.read(), status="running"))  # the state after SIGKILL in a write
        folder.results_file.write_bytes(b"".join(whole[:kept]) + whole[kept][:100])
        again = sweep.run(chosen, workers=1)
        assert again.cached == sum(len(block.run) for block in undisturbed.results().blocks[:kept])
        assert lines(folder) == lines(undisturbed)
    injected("SIGKILL during a sweep", 2)


@pytest.mark.slow
def test_a_killed_worker_costs_its_cell_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = grid("pass", KILLED, seeds=(1, 3))._replace(axes=(sweep.Axis("lr", (0.1,)),))
    monkeypatch.setattr(processes, "TRIES", 2)
    outcome = sweep.run(chosen, workers=2, chunk=1)
    assert (outcome.lost, outcome.failed, outcome.record.status) == (1, 1, "interrupted")
    assert outcome.lost_reason == "the training process was killed by SIGKILL"
    assert outcome.folder.results().column("run", 2) == [0, None]
    alone = sweep.run(grid("pass", seeds=(1,))._replace(axes=chosen.axes), Path("alone"), workers=1, chunk=1)
    assert lines(outcome.folder) == lines(alone.folder)
    injected("killed worker of a sweep", 3)


@pytest.mark.slow
def test_ctrl_c_ends_all_workers_silently() -> None:
    grid(WAITS)
    with waiting("2") as process:
        begin = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)  # like a terminal
        ended = process.wait()
        assert time.monotonic() - begin < 10  # within a second, on an idle machine
        assert ended == (130, "", "stopped after 0 of 8 runs; the same command continues from there\n")
        see_ended([int(file.name.removeprefix("been")) for file in Path().glob("been*")])
    injected("Ctrl-C with workers", 1)


def test_a_worker_ends_with_its_parent() -> None:
    # A sweep with workers would take seconds more, since each of its processes imports torch.
    script = (
        "import multiprocessing, os, signal\nfrom gradlab.sweeps.workers import _end_with_parent\n"
        "process = multiprocessing.get_context('spawn').Process(target=_end_with_parent)\n"
        "process.start()\nprint(process.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    answer = subprocess.run([sys.executable, "-c", script], env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE,
                            text=True, check=False, timeout=PATIENCE)  # fmt: skip
    assert answer.returncode == -signal.SIGKILL
    see_ended([int(answer.stdout)])
    injected("killed parent of workers", 1)


def see_ended(workers: list[int]) -> None:
    assert workers
    due = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < due
        time.sleep(0.02)


def test_a_full_disk_leaves_whole_blocks_and_the_sweep_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = grid("pass")
    undisturbed = lines(sweep.run(chosen, Path("undisturbed"), workers=1, chunk=2).folder)
    write = os.write
    for nth in range(4):
        written: list[int] = []

        def full(handle: int, content: bytes, nth: int = nth, written: list[int] = written) -> int:
            if not content.startswith(b'{"sha256"') and not written:
                return write(handle, content)
            if content.startswith(b'{"sha256"'):
                written.append(1)
            if len(written) <= nth or not path_of(handle).endswith("results.jsonl"):
                return write(handle, content)
            if content.startswith(b'{"sha256"'):
                return write(handle, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StoreError, match=r"results\.jsonl cannot be written: No space left"):
            sweep.run(chosen, workers=1, chunk=2, fresh=True)
        monkeypatch.setattr(os, "write", write)
        folder = store.newest_sweep(Path("runs"))
        assert folder
        assert folder.read().status == "interrupted"
        assert len(lines(folder)) == nth
        assert lines(sweep.run(chosen, workers=1).folder) == undisturbed
    injected("disk full in a sweep", 4)


# The results file


def test_blocks_are_read_as_they_were_written() -> None:
    folder = SweepFolder(Path("s"))
    folder.make()
    with folder.log() as log:
        log.append(BLOCK)
        log.append(BLOCK._replace(run=[1, 2], status=["done"] * 2, verdict=["rises"] * 2, error=["", ""]))
    found = folder.results()
    assert not found.damaged
    assert repr(found.blocks[0]) == repr(BLOCK)  # repr, since nan != nan
    assert found.column("verdict", 7) == [None, "rises", "rises", None, "falls", None, None]
    assert list(found.by_run()) == [1, 2, 4, 6]
    assert b'"error"' not in folder.results_file.read_bytes().splitlines()[1]


def test_no_flipped_bit_of_results_passes_for_a_block() -> None:
    folder = SweepFolder(Path("s"))
    folder.make()
    line = block_line(BLOCK)
    for bit in range(8):  # one file per bit, with one line per flipped byte
        flipped = [line[:nth] + bytes([line[nth] ^ 1 << bit]) + line[nth + 1 :] for nth in range(len(line))]
        folder.results_file.write_bytes(b"".join(flipped))
        found = folder.results()
        assert not found.blocks
        assert len(found.damaged) >= len(line) - 1
    injected("flipped bit in results", len(line) * 8)


def test_torn_results_keep_whole_blocks_and_are_mended() -> None:
    folder = SweepFolder(Path("s"))
    folder.make()
    line = block_line(BLOCK)
    for end in range(len(line)):
        folder.results_file.write_bytes(line + line[:end])
        assert len(folder.results().blocks) == 1
        assert not folder.results().damaged
        if end % 40 == 0:
            with folder.log() as log:
                log.append(BLOCK)
            assert folder.results_file.read_bytes() == line * 2
    injected("truncated results", len(line))


@given(st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode() + b"\n"))
def test_no_bytes_make_reading_results_fail(content: bytes) -> None:
    folder = SweepFolder(Path("s"))
    folder.make()
    folder.results_file.write_bytes(content)
    assert not folder.results().blocks
    injected("random bytes as results", 100)


@given(st.sampled_from([None, *RECORD.__dataclass_fields__]), JSON)
def test_an_edited_sweep_record_is_read_or_refused_in_a_line(key: str | None, value: Any) -> None:
    folder = SweepFolder(Path("s"))
    folder.path.mkdir(exist_ok=True)
    folder.write(RECORD)
    content = json.loads(folder.record_file.read_text())
    folder.record_file.write_text(json.dumps(value if key is None else content | {key: value}))
    try:
        record = folder.read()
    except StoreError as error:
        assert "\n" not in str(error)  # noqa: PT017 - reading may also succeed
    else:
        assert list(map(sweep.numbering_of(record), range(record.runs)))
    injected("any JSON in a sweep's record", 200)


VERDICTS: list[Any] = ["falls", "rises", "oscillates", "diverges", "flat"]


def test_every_verdict_can_be_written_and_read() -> None:
    folder = SweepFolder(Path("s"))
    folder.make()
    count = len(VERDICTS)
    losses: list[float | None] = [1.0] * count
    block = Block("loop", list(range(count)), ["done"] * count, VERDICTS, [1] * count, losses, losses, losses,
                  [""] * count)  # fmt: skip
    measured = block._replace(measured={"training_set_loss": [None, 0.1, float("inf"), -1.0, 3.0]})
    with folder.log() as log:
        log.append(block)
        log.append(measured)
    assert folder.results().blocks == [block, measured]
    assert folder.results().measured == ["training_set_loss"]
    assert block.values("training_set_loss") == [None] * count
