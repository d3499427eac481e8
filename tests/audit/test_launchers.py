"""What starts a training in other processes is refused before it does, with the command that works."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gradlab.cli import app
from tests.audit.training import NEVER_CLEARING
from tests.processes import fresh

pytestmark = pytest.mark.usefixtures("_main_restored")

HERE = str(Path(sys.executable).parent)
REFUSED = {
    "-m torch.distributed.run --max-restarts 0 t.py x": "torchrun --max-restarts 0 -m gradlab audit t.py x",
    "-m torch.distributed.launch --use-env -m pack.t": "torchrun -m gradlab audit -m pack.t",
    "-m accelerate.commands.launch --cpu t.py": "accelerate launch --cpu -m gradlab audit t.py",
    "-m accelerate.commands.accelerate_cli launch t.py x": "accelerate launch -m gradlab audit t.py x",
    "torchrun --standalone t.py": "torchrun --standalone -m gradlab audit t.py",
    "accelerate-launch t.py": "accelerate launch -m gradlab audit t.py",
    "accelerate launch --module pack.t": "accelerate launch -m gradlab audit -m pack.t",
    "deepspeed --num_gpus 2 t.py": "deepspeed --num_gpus 2 --module --no_local_rank gradlab audit t.py",
    f"{HERE}/torchrun --nproc-per-node 2 t": "torchrun [OPTIONS] -m gradlab audit SCRIPT.py [ARGS]",
    "TORCH/distributed/run.py t.py": "torchrun -m gradlab audit t.py",
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_launcher_is_refused_with_the_command_that_works(words: str) -> None:
    import torch

    given = words.replace("TORCH", str(Path(torch.__file__).parent)).split()
    done = CliRunner().invoke(app, ["audit", *given])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith(f"Put it first: `{REFUSED[words]}`\n")


@pytest.mark.parametrize("name", ["torchrun.py", "accelerate", "run.py"])
def test_a_script_with_the_name_of_a_launcher_is_audited(folder: Path, name: str) -> None:
    (folder / name).write_text(NEVER_CLEARING)
    done = CliRunner().invoke(app, ["audit", name])
    assert done.exit_code == 1
    assert "never-cleared" in done.stderr


SPAWNS = """
import sys, torch
from torch import multiprocessing
def train(rank):
    print("trained", flush=True)
if __name__ == "__main__":
    {before}
    try:
        {call}
    except Exception:
        print("caught", flush=True)
    {after}
"""
SPAWN = {
    "spawn": ("multiprocessing.spawn(train, nprocs=2)", 2),
    "start_processes": ("multiprocessing.start_processes(train, (), 3, start_method='fork')", 3),
    "of the module": ("from torch.multiprocessing.spawn import spawn; spawn(train)", 1),
}


@pytest.mark.parametrize(("call", "number"), SPAWN.values(), ids=SPAWN)
def test_a_spawned_training_is_refused_at_its_call(folder: Path, call: str, number: int) -> None:
    (folder / "s.py").write_text(SPAWNS.format(before="", call=call, after="print('after')"))
    done = CliRunner().invoke(app, ["audit", "s.py", "--lr", "1"])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{folder / 's.py'}:9 starts {number} process")
    assert done.stderr.endswith(f"`torchrun --nproc-per-node {number} -m gradlab audit s.py --lr 1`\n")


def test_a_script_that_swallows_the_refusal_is_still_refused(folder: Path) -> None:
    call = "try: multiprocessing.spawn(train, nprocs=2)\n        except BaseException: print('swallowed', flush=True)"
    (folder / "pack").mkdir()
    (folder / "pack" / "s.py").write_text(SPAWNS.format(before="", call=call, after="raise SystemExit(5)"))
    done = CliRunner().invoke(app, ["audit", "--json", "-m", "pack.s"])
    error = json.loads(done.stdout)["error"]
    assert (done.exit_code, error["exit_status"], done.stderr) == (2, 2, "swallowed\n")
    assert error["message"].endswith("`torchrun --nproc-per-node 2 -m gradlab audit -m pack.s`")


def test_after_a_swallowed_refusal_nothing_trains(folder: Path) -> None:
    call = "try: multiprocessing.spawn(train, nprocs=2)\n        except BaseException: pass"
    after = NEVER_CLEARING.replace("optimizer.step()", "optimizer.step()\n    print('stepped')").replace(
        "\n", "\n    "
    )
    (folder / "s.py").write_text(SPAWNS.format(before="", call=call, after=after))
    done = CliRunner().invoke(app, ["audit", "s.py"])
    assert (done.exit_code, "stepped" in done.stdout) == (2, False)
    assert "s.py:9 starts 2 processes with torch.multiprocessing" in done.stderr


# As fresh processes, which start others


def test_spawning_after_a_step_is_not_refused(folder: Path) -> None:
    before = NEVER_CLEARING.replace("\n", "\n    ")
    (folder / "s.py").write_text(SPAWNS.format(before=before, call=SPAWN["spawn"][0], after=""))
    done = fresh("audit", "s.py")
    assert done.status == 1
    assert done.stdout.splitlines()[-2:] == ["trained", "trained"]
    assert "  processes that the script spawned were not watched: 2\n" in done.stderr
    assert "never-cleared" in done.stderr


OTHERS = """
import torch
from torch import multiprocessing
from torch.utils.data import DataLoader
w = torch.ones(4, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.01)
def double(x):
    return 2 * x
def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        w.square().sum().backward()
        optimizer.step()
if __name__ == "__main__":
    {what}
"""
NOT_REFUSED = {
    "workers": ("for batch in DataLoader(torch.ones(8, 4), 2, num_workers=2): train(1)", 0),
    "a pool": (
        "for _ in range(15):\n        with multiprocessing.Pool(2) as pool: pool.map(double, [1, 2])\n    train(4)",
        0,
    ),
    "a process": ("p = multiprocessing.Process(target=train, args=(3,)); p.start(); p.join()", 3),
}


@pytest.mark.parametrize(("what", "status"), NOT_REFUSED.values(), ids=NOT_REFUSED)
def test_other_processes_are_not_refused(folder: Path, what: str, status: int) -> None:
    (folder / "s.py").write_text(OTHERS.format(what=what))
    done = fresh("audit", "s.py")
    assert done.status == status, done.stderr
    assert ("or trains in another process" in " ".join(done.stderr.split())) is (status == 3)
