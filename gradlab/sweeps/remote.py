"""What a Dask worker does with a cell: it lets a process of its own train it, as a worker of this machine would.

A worker's own process trains nothing. Its threads share Python's global generators with Dask, which draws from them;
a task there could not start processes, and could not be stopped. A child process is what a sweep without Dask trains
in, too: so results are the same, user code that ends its process ends no worker, and a cell that nobody waits for any
more is stopped at once.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradlab import __version__
from gradlab.errors import GradlabError
from gradlab.runs import TELL_EVERY
from gradlab.sweeps import shipping
from gradlab.sweeps.workers import PATIENCE, answer, how_ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.store import Block
    from gradlab.sweeps.shipping import Shipment

IDLE = 10.0  # seconds a process waits for another cell: torch need not be imported anew, and nothing stays for long

_idle: list[_Child] = []  # of this worker; a list's pop and append need no lock


def versions() -> dict[str, str]:
    """Return the versions that are installed, without importing torch: for a first look at each worker."""
    found = {"gradlab": __version__, "python": platform.python_version()}
    with suppress(importlib.metadata.PackageNotFoundError):
        found["torch"] = importlib.metadata.version("torch")
    return found


def train(shipment: Shipment, topic: str, nth: int, every: float) -> tuple[Any, ...]:
    """Train a cell on the worker that this is called on, in a process of its own.

    Args:
        shipment: the cell.
        topic: of the events by which is told how far it is: (nth, steps, share).
        nth: the place of the cell in the sweep.
        every: seconds between two of these.

    Returns:
        ("block", block), ("fault", name of the error, message), or ("ended", how) where the process ended without a
        word, or nobody waits for the cell any more.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state in ("executing", "long-running")

    def tell(steps: int, share: float) -> None:
        worker.log_event(topic, [nth, steps, share])

    child = _taken(Path(worker.local_directory) / "gradlab")
    found = child.train(shipment, tell, wanted, every)
    if found[0] == "ended":
        return "ended", child.end()
    _idle.append(child)
    return found


def let_go() -> None:
    """End the processes of this worker that train nothing."""
    gone = _idle.copy()
    del _idle[: len(gone)]
    for child in gone:
        child.process.terminate()
    for child in gone:
        child.end()


def _taken(folder: Path) -> _Child:
    """Return a process that trains nothing, or start one."""
    with suppress(IndexError):
        while True:
            child = _idle.pop()
            if child.process.poll() is None:
                return child
            child.end()
    return _Child(folder)


class _Child:
    """A process that trains cells, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.reads, theirs = connection.Pipe()
        call = f"from gradlab.sweeps import remote; remote.serve({theirs.fileno()}, {os.getpid()}, {str(folder)!r})"
        path = os.pathsep.join(filter(None, sys.path))
        self.process = subprocess.Popen(  # noqa: S603 - of ours; multiprocessing starts none in a worker of a nanny
            [sys.executable, "-P", "-c", call], env=os.environ | {"PYTHONPATH": path}, pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, stdout=2,  # what a user's task prints is talk
        )  # fmt: skip
        theirs.close()

    def train(
        self,
        shipment: Shipment,
        tell: Callable[[int, float], object],
        wanted: Callable[[], bool],
        every: float,
    ) -> tuple[Any, ...]:
        """Return what the process answers, or ("ended",) when it is gone or nobody waits for the cell."""
        due = 0.0
        try:
            self.reads.send(shipment)
            while wanted():
                if not self.reads.poll(TELL_EVERY):
                    continue
                kind, *rest = self.reads.recv()
                if kind != "at":
                    return kind, *rest
                if (now := time.monotonic()) >= due:
                    due = now + every
                    tell(*rest)
        except (EOFError, OSError):
            pass
        return ("ended",)

    def end(self) -> str:
        """Let it be gone, and say how it ended."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE / 10)  # one that was at its end already
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
        if self.process.poll() is None:
            self.process.kill()
        self.reads.close()
        return how_ended(self.process.wait())


# In that process


def serve(handle: int, worker: int, folder: str) -> None:
    """Train cells as they come, until none comes for a while or the worker is gone.

    Args:
        handle: of the connection to the worker.
        worker: its process.
        folder: where files of users may be put.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=partial(_end_with, worker), name="worker", daemon=True).start()
    with suppress(EOFError, OSError), connection.Connection(handle) as asks:  # the worker is gone
        while asks.poll(IDLE):
            asks.send(_answer(asks.recv(), asks, Path(folder)))


def _answer(shipment: Shipment, asks: connection.Connection[Any, Any], folder: Path) -> tuple[Any, ...]:
    try:
        unpacked = shipping.unpack(shipment, folder)
    except GradlabError as error:
        return "fault", type(error).__name__, str(error)
    kind, *rest = answer(unpacked.grid, shipment.numbers, asks)
    if kind == "fault":
        name, message = rest
        return kind, name, unpacked.told(message)
    block: Block = rest[0]
    return kind, unpacked.block(block, shipment)


def _end_with(worker: int) -> None:
    while os.getppid() == worker:
        time.sleep(PATIENCE)
    os._exit(1)
