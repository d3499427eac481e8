"""Sweeps on a real Dask cluster on this machine: same results if any process is killed or interrupted."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from gradlab import store
from gradlab import sweeps as sweep
from gradlab.experiment import Override, from_task
from gradlab.sweeps import cluster, grid_of
from gradlab.sweeps.cluster import Cluster
from tests.faults.test_sweeps import COMMAND, ENVIRONMENT, injected, lines, see_ended
from tests.processes import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradlab.runs import Stop
    from gradlab.sweeps import Ended, Grid

pytest.importorskip("distributed")
pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.slow]

MINE = """
import os, signal, time
from pathlib import Path
import torch
from gradlab import Task

HERE = Path({folder!r})

def mine(seed: int) -> Task:
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

def thirds(parameters, update):
    for each in parameters:
        each.grad /= 3

def meet(seed):
    {meet}
"""
RAISES = """if seed == 2:
        1 / 0
"""
WAITS = """
    while seed == 2 and not (HERE / "go").exists():
        (HERE / f"been{os.getpid()}-{os.getppid()}").touch()
        time.sleep(0.01)
"""
KILLED = """if seed == 3:
        os.kill(os.getpid(), signal.SIGKILL)
"""


class Processes(NamedTuple):
    """A scheduler and its workers."""

    address: str
    workers: list[subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Start a scheduler and two workers, each in a separate folder."""
    folder = tmp_path_factory.mktemp("dask")
    with (folder / "log").open("wb") as log:

        def start(*command: str) -> subprocess.Popen[bytes]:
            there = folder / "-".join(each.strip("-") for each in command[:1] + command[-1:])
            there.mkdir()
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *command, "--scheduler-file", str(folder / "file.json"),
                 "--no-dashboard"],
                env=os.environ | ENVIRONMENT, cwd=there, stdout=log, stderr=log,
            )  # fmt: skip

        started: list[subprocess.Popen[bytes]] = []
        try:
            started.append(start("scheduler", "--host", "127.0.0.1", "--port", "0"))
            worker = ["worker", "--nthreads", "1", "--local-directory", "scratch"]
            started += [start(*worker), start(*worker, "--no-nanny")]
            due = time.monotonic() + PATIENCE
            while not (folder / "file.json").exists():
                assert time.monotonic() < due, (folder / "log").read_text()
                time.sleep(0.05)
            address = json.loads((folder / "file.json").read_text())["address"]
            with Cluster(address) as found:
                while len(found.threads()) < 2:
                    assert time.monotonic() < due, (folder / "log").read_text()
                    time.sleep(0.05)
            yield Processes(address, started[1:])
        finally:
            for process in reversed(started):
                process.kill()
            for process in started:
                process.wait()


def grid(meet: str, seeds: Sequence[int] = (0, 1, 2, 3), modes: Sequence[str] = ("zero_grad",)) -> Grid:
    Path("mine.py").write_text(MINE.replace("{meet}", meet.strip()).replace("{folder!r}", repr(str(Path.cwd()))))
    values: dict[str, Any] = {"modes": list(modes), "steps": 8, "seeds": list(seeds), "optimizer.name": "vanilla"}
    overrides = [Override(tuple(key.split(".")), value, "") for key, value in values.items()]
    return grid_of(from_task("mine.py:mine", overrides), ["lr=0.01,0.1"], engine="loop")


def alone(chosen: Grid) -> list[bytes]:
    """Return the results of the same sweep without a cluster."""
    return lines(sweep.run(chosen, Path("alone"), workers=1, chunk=1).folder)


def test_dask_results_equal_local_ones_without_the_users_file(
    dask: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = grid(RAISES, modes=["zero_grad", "mine.py:thirds,every=2"])
    here = alone(chosen)
    sent, ended, most = 0, 0, 0

    def far(
        grid: Grid, cells: Sequence[tuple[int, ...]], on_progress: Callable[[int, int, float], object], stop: Stop
    ) -> Iterator[Ended]:
        nonlocal ended
        with Cluster(dask.address) as there:
            monkeypatch.setattr(there.client, "submit", partial(submitted, there.client.submit))
            for each in there(grid, cells, on_progress, stop):
                ended += 1
                yield each
        Path("kept").rename("mine.py")

    def submitted(submit: Callable[..., Any], *args: Any, **more: Any) -> Any:
        nonlocal sent, most
        if Path("mine.py").exists():  # the file has been read
            Path("mine.py").rename("kept")
        sent += 1
        most = max(most, sent - ended)
        return submit(*args, **more)

    there = sweep.run(chosen, executor=far, chunk=1)
    assert (there.failed, there.record.status) == (4, "done")
    assert "ZeroDivisionError" in there.folder.results().column("error", 16)[2]
    assert lines(there.folder) == here
    with Cluster(dask.address) as cluster_:
        assert set(cluster_.client.run(lambda: len(multiprocessing.active_children())).values()) == {0}
    assert (sent, ended, most) == (16, 16, cluster.CELLS_PER_THREAD * 2)  # two workers with one thread each


def test_a_killed_process_of_a_dask_worker_costs_its_cell_alone(
    dask: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "TRIES", 2)
    chosen = grid(KILLED, seeds=(1, 3))._replace(axes=(sweep.Axis("lr", (0.1,)),))
    there = sweep.run(chosen, dask=dask.address, chunk=1)
    assert (there.lost, there.failed, there.record.status) == (1, 1, "interrupted")
    assert there.lost_reason == "the training process was killed by SIGKILL"
    assert there.folder.results().column("run", 2) == [0, None]
    assert all(worker.poll() is None for worker in dask.workers)
    injected("killed process of a Dask worker", 2)


@contextmanager
def waiting(address: str) -> Iterator[subprocess.Popen[str]]:
    """Start a sweep whose seed 2 waits at its fifth step for the file "go"."""
    command = [*COMMAND, "--optimizer", "vanilla", "--engine", "loop", "--dask", address]
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from gradlab.sweeps import stacked; "
        "stacked.LOOP_CHUNK = 1; from gradlab.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, *command], env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        see_both_wait()
        yield process
    finally:
        process.kill()
        process.communicate()


def see_both_wait() -> None:
    due = time.monotonic() + PATIENCE
    while len(been()) < 2:
        assert time.monotonic() < due
        time.sleep(0.02)


def been() -> dict[int, int]:
    """Return the processes that have reached the fifth step of seed 2, with their parents."""
    parts = [file.name.removeprefix("been").split("-") for file in Path().glob("been*")]
    return {int(child): int(parent) for child, parent in parts}


def test_ctrl_c_stops_a_cluster_and_keeps_whole_blocks(dask: Processes) -> None:
    chosen = grid(WAITS)
    with waiting(dask.address) as process:
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=PATIENCE)
        assert (process.returncode, stdout) == (130, "")
        folder = store.newest_sweep(Path("runs"))
        assert folder
        done = len(lines(folder))
        assert stderr == f"stopped after {done} of 8 runs; the same command continues from there\n"
        see_ended(list(been()))
    assert folder.read().status == "interrupted"
    Path("go").touch()
    here = alone(chosen)
    assert 2 <= done <= 6
    assert set(lines(folder)) < set(here)
    assert lines(sweep.run(chosen, workers=1).folder) == here
    injected("Ctrl-C with Dask", 1)


def test_the_cells_of_a_killed_dask_worker_are_trained_elsewhere(dask: Processes) -> None:
    chosen = grid(WAITS)

    def kill() -> None:
        see_both_wait()
        child, worker = next(iter(been().items()))
        killed.append(worker)
        os.kill(worker, signal.SIGKILL)
        see_ended([child])
        Path("go").touch()

    killed: list[int] = []
    killer = threading.Thread(target=kill)
    killer.start()
    there = sweep.run(chosen, dask=dask.address, chunk=1)
    killer.join()
    assert killed
    assert (there.lost, there.record.status) == (0, "done")
    assert lines(there.folder) == alone(chosen)
    injected("killed Dask worker", 1)
