"""Comparisons of real scripts, in processes with torch: equal losses, exit statuses, and signals."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gradlab.store import ExperimentFolder
from tests.processes import gradlab, start

pytestmark = pytest.mark.slow

FORGETS = """
import sys
import torch
from torch import nn

x = torch.linspace(-1, 1, 40).unsqueeze(1)
model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
for step in range(60):
    loss = nn.functional.mse_loss(model(x), x**2)
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.4f}")
"""


def losses_by_hand(seed: int, keep: float) -> list[float]:
    """Return the losses of FORGETS with what it should do to `.grad` written into it."""
    torch.manual_seed(seed)
    x = torch.linspace(-1, 1, 40).unsqueeze(1)
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    losses = []
    for _ in range(60):
        loss = nn.functional.mse_loss(model(x), x**2)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        optimizer.step()
        for each in model.parameters():
            assert each.grad is not None
            each.grad.mul_(keep)
        losses.append(loss.item())
    return losses


def test_losses_are_those_of_scripts_by_hand() -> None:
    Path("train.py").write_text(FORGETS)
    ended = gradlab("compare", "--seed", "3", "--jobs", "2", "--json", "train.py")
    assert ended.status == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert document["notes"] == []
    assert document["runs"][0]["measured"] == {"mode": "no_zero_grad", "keep": 1.0}
    keeps = {"as_written": 1.0, "no_zero_grad": 1.0, "zero_grad": 0.0, "halve_grad": 0.5}
    for run in ExperimentFolder(Path("runs/train")).runs():
        record = run.read()
        assert [row.loss for row in run.rows().rows] == losses_by_hand(record.seed, keeps[record.mode])


WORKS_ON = """
import os
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader

model = nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
data = [(torch.ones(1), torch.zeros(1))] * 64
while True:
    loader = DataLoader(data, batch_size=8, num_workers=1)
    for x, y in loader:
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(os.getpid(), flush=True)
"""


def group_of(pid: int) -> set[int]:
    """Return all living processes in the group of a process that leads one."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[2] == str(pid) and fields[0] not in "ZX":
            found.add(int(stat.parent.name))
    return found


def pid_of_script() -> int:
    (file,) = Path("runs").glob("*/as_written-*/stdout.txt")
    return int(file.read_text().splitlines()[-1])


def has_printed() -> bool:
    return any(file.read_text().count("\n") >= 2 for file in Path("runs").glob("*/as_written-*/stdout.txt"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_signal_ends_the_script_and_its_workers(number: signal.Signals, status: int) -> None:
    Path("train.py").write_text(WORKS_ON)
    with start("compare", "train.py") as process:
        process.wait_for(has_printed)
        pid = pid_of_script()
        assert pid in group_of(pid)
        process.send(number)
        ended = process.wait()
    assert ended.status == status
    if number != signal.SIGKILL:
        assert "Stopped. Finished runs are kept; the same command does the rest" in ended.stderr
    due = time.monotonic() + 60
    while group_of(pid) and time.monotonic() < due:
        time.sleep(0.1)
    if left := group_of(pid):
        os.killpg(pid, signal.SIGKILL)
    assert left == set()
    (record,) = [run.read() for run in ExperimentFolder(Path("runs/train")).runs()]
    assert record.status == "interrupted"


WITHOUT_PASSES = """
import torch
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
for _ in range(5):
    w.grad, = torch.autograd.grad(w.square().sum(), w)
    optimizer.step()
"""


def test_a_script_without_backward_passes_is_refused() -> None:
    Path("train.py").write_text(WITHOUT_PASSES)
    for words in ((), ("-m", "accumulate:2")):
        ended = gradlab("compare", *words, "train.py")
        assert (ended.status, ended.stderr.splitlines()[-1]) == (
            2,
            "train.py cannot be compared: its updates have no backward pass, so no losses can be compared.",
        )
    assert not list(Path("runs").glob("*/*"))


def test_a_script_in_the_folder_of_its_runs_runs() -> None:
    Path("exp").mkdir()
    Path("exp/train.py").write_text(FORGETS)
    for out in ("exp", "runs"):
        ended = gradlab("compare", "-m", "zero_grad", "--max-steps", "5", "--out", out, "exp/train.py")
        assert ended.status == 0, ended.stderr


def test_a_script_with_a_package_and_a_module_name_runs() -> None:
    Path("pack").mkdir()
    Path("pack/__init__.py").touch()
    Path("pack/data.py").write_text("SIZE = 4")
    Path("pack/train.py").write_text("from pack.data import SIZE\n" + FORGETS)
    Path("platform.py").write_text("raise RuntimeError('a file of the user, not the module of Python')")
    ended = gradlab("compare", "-m", "zero_grad", "--json", "--max-steps", "5", "--module", "pack.train")
    assert ended.status == 0, ended.stderr + ended.stdout
    runs: list[Any] = json.loads(ended.stdout)["runs"]
    assert [(run["mode"], run["steps"]) for run in runs] == [("as_written", 5), ("zero_grad", 5)]
    record = json.loads(next(Path("runs/train").glob("zero_grad-*/run.json")).read_text())
    assert set(record["compared"]["sources"]) >= {"pack/__init__.py", "pack/data.py", "pack/train.py"}
