"""The N-th system call of a run fails, for every N: the files stay valid, and the same command completes them."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gradlab.store import RunFolder
from tests.faults import injecting
from tests.faults.table import injected
from tests.processes import Process

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="file handles are identified by /proc")

OURS = {"run.json", "metrics.jsonl"}
EVALUATIONS = "evaluations.jsonl"
UNFINISHED = re.compile(r"\.(run\.json|checkpoint-\d\.pt)\.\d+\.new")
CHECKPOINT = re.compile(r"checkpoint-\d\.pt")
KILLED = -9
SPECS = {
    "disk full at a write": ["write:ENOSPC", "write:full"],
    "SIGKILL in a write": ["write:kill"],
    "failed open or mkdir": ["open:EIO", "mkdir:ENOSPC"],
    "failed fsync, rename or truncate": ["fsync:EIO", "replace:EIO", "ftruncate:EIO"],
    "SIGKILL between two calls": ["fsync:kill", "replace:kill", "ftruncate:kill"],
    "fault while retraining": ["write:full:--fresh", "replace:kill:--fresh", "ftruncate:kill:--fresh"],
    "file size limit": ["limit:size"],
    "fault at a checkpoint": [f"{each}:checkpoints" for each in ("write:full", "fsync:EIO", "replace:EIO")],
    "SIGKILL at a checkpoint": [f"{each}:checkpoints" for each in ("write:kill", "fsync:kill", "replace:kill")],
    "fault at an evaluation": [
        f"{each}:evaluated" for each in ("write:full", "open:EIO", "fsync:EIO", "ftruncate:EIO")
    ],
    "SIGKILL at an evaluation": [f"{each}:evaluated" for each in ("write:kill", "fsync:kill", "ftruncate:kill")],
}


def seen(*specs: str) -> list[dict[str, Any]]:
    """Inject the faults of the specs, and return a report of each run with a fault."""
    with Process(partial(injecting.main, list(specs))) as process:
        ended = process.wait(300)
    assert ended.status == 0, ended.stderr
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert {each["spec"] for each in found if not each["fired"]} == set(specs), (
        "each spec ends with a run without a fault"
    )
    return [each for each in found if each["fired"]]


def logs_below(folder: Path) -> dict[str, bytes]:
    files = [file for name in ("metrics.jsonl", EVALUATIONS) for file in folder.rglob(name)]
    return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}


def check(runs: list[dict[str, Any]]) -> None:
    for each in runs:
        folder = Path(each["folder"])
        whole = logs_below(folder.parent / "undisturbed")
        check_report(each, whole)
        if (folder / "left").exists():
            check_left(folder / "left", each["status"], whole)
        assert (each["again"], each["stderr_again"]) == (0, ""), each
        assert logs_below(folder / "runs") == whole, each
        there = {file.name for file in folder.glob("runs/**/*") if file.is_file()}
        evaluated = {EVALUATIONS} if each["spec"].endswith(":evaluated") else set()
        assert there - {"experiment.json"} == OURS | evaluated, each  # written if the same command found all runs done
        assert {RunFolder(file.parent).read().status for file in folder.glob("runs/*/*/run.json")} == {"done"}, each


def check_report(each: dict[str, Any], whole: dict[str, bytes]) -> None:
    """Check that one line reports the fault and names the file, unless it was harmless or killed the process."""
    if each["status"] == 0:
        assert logs_below(Path(each["folder"], "left")) == whole, each
        assert each["stderr"] == "", each
    elif each["status"] == KILLED:
        assert each["stderr"] == "", each
    else:
        assert each["status"] == 2, each
        assert re.fullmatch(r"runs\S* cannot be (read|written): .*\n", each["stderr"]), each


def check_left(left: Path, status: int, whole: dict[str, bytes]) -> None:
    """Check that files are intact, rows equal those of the undisturbed run, and only finished runs are done."""
    names = {file.name for file in left.rglob("*") if file.is_file()}
    unfinished = {name for name in names if UNFINISHED.fullmatch(name) or CHECKPOINT.fullmatch(name)}
    assert names - unfinished <= {*OURS, EVALUATIONS}, names
    for name, content in logs_below(left).items():
        assert whole[name].startswith(content), (left, name)
        assert status == KILLED or content[-1:] in (b"", b"\n"), (left, name)
    for file in left.glob("*/*/run.json"):
        run = RunFolder(file.parent)
        record, rows = run.read(), run.rows()
        assert rows.damaged == []
        assert record.status in ("done", "failed", "interrupted")
        done = run.verified_record(record, rows)[0].status == "done"
        assert run.evaluations().damaged == []
        finished = {name: content for name, content in whole.items() if name.startswith(f"{file.parent.name}/")}
        assert not done or logs_below(file.parent) == finished


QUICK = ["disk full at a write", "SIGKILL in a write"]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in SPECS]
)
def test_a_run_survives_each_call_that_fails_or_is_its_last(name: str) -> None:
    runs = seen(*SPECS[name])
    check(runs)
    injected(name, len(runs))
    assert not [each for each in runs if (each["status"] == KILLED) != (":kill" in each["spec"])]
    if name == "file size limit":
        assert {name for each in runs for name in OURS if name in each["stderr"]} == OURS
    unfinished = {left.parts[0].split(":")[1] for left in Path().glob("*/*/left/**/*.new")}
    assert unfinished <= {"kill"}, "a failed write removes its temporary file"
    assert unfinished or name != "SIGKILL in a write"
