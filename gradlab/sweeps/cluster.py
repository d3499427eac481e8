"""Cells on a Dask cluster: the same as on this machine, as futures of any scheduler, with the same results.

A Dask worker's own process trains nothing: its threads share Python's global generators with Dask, which draws from
them, and a task there could not be stopped. It starts processes as `workers` does on this machine.
"""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import time
import uuid
from collections import deque
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from gradlab.errors import ClusterError, GradlabError, shortened
from gradlab.runs import REPORT_EVERY, StoppedError
from gradlab.store import Block
from gradlab.sweeps.cells import cell_of
from gradlab.sweeps.shipping import Shipment, check_versions, shipper, train_shipment, versions
from gradlab.sweeps.workers import TRIES, Ended, TrainingProcess, end_all, throttled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from distributed import Client, Future

    from gradlab.runs import Stop
    from gradlab.sweeps.grid import Grid
    from gradlab.sweeps.workers import OnCellProgress

CONNECT_TIMEOUT = 5.0  # seconds to wait for the scheduler, and as many for its workers
CALL_TIMEOUT = 30.0  # seconds that looking at all workers may take
LOOK_EVERY = 2.0  # seconds between two looks at which workers there are
NO_WORKERS_TIMEOUT = 60.0  # seconds to wait for workers to come back when all are gone
CELLS_PER_THREAD = 2  # cells for each that is trained at a time: the next one is there when one ends
CELL_REPORT_EVERY = 2.0  # seconds between two reports of a cell: hundreds of workers report to one scheduler
IDLE_TIMEOUT = 10.0  # seconds that a process with torch imported waits for another cell
LOGGERS = ("distributed", "distributed.client", "distributed.core", "tornado.application")


class Cluster:
    """A Dask cluster; called, an `Executor`. It is connected to from when it is entered until it is left."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._stack = ExitStack()
        self._at_once, self._look_due, self._seen = 0, 0.0, time.monotonic()

    def __enter__(self) -> Self:
        """Connect, and look at the workers that are there.

        Raises:
            ClusterError: there is no such scheduler, no worker, or one that cannot train what is trained here.
        """
        with ExitStack() as stack:
            for logger in map(logging.getLogger, LOGGERS):  # gradlab reports what a user can do about it, in a line
                stack.callback(logger.setLevel, logger.level)
                logger.setLevel(logging.CRITICAL + 1)
            self.client: Client = stack.enter_context(_connected(self.address))
            self._check_workers()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(
        self, grid: Grid, cells: Sequence[tuple[int, ...]], on_progress: OnCellProgress, stop: Stop
    ) -> Iterator[Ended]:
        """Train the cells; see `Executor`.

        Raises:
            ClusterError: the scheduler is gone, or all workers are, or one cannot train what is trained here.
        """
        from distributed import CancelledError

        ship, topic = shipper(grid), f"gradlab-{uuid.uuid4().hex}"
        inbox: SimpleQueue[tuple[Any, ...]] = SimpleQueue()  # (nth, steps, share) or (nth, what came of the cell)
        waiting = deque(range(len(cells)))
        away: dict[int, Future[Any]] = {}

        async def wait_for(nth: int) -> None:  # in the thread of the client
            try:
                inbox.put((nth, await self.client.gather(away[nth], asynchronous=True)))
            except Exception as error:  # `_ended` knows which
                inbox.put((nth, error))

        self.client.subscribe_topic(topic, lambda event: inbox.put(tuple(event[1])))
        try:
            while waiting or away:
                room = self._room(grid.experiment["threads"])
                while waiting and len(away) < room:
                    nth = waiting.popleft()
                    sent = ship(cell_of(grid, cells[nth]))
                    away[nth] = self.client.submit(train_on_worker, sent, topic, nth, pure=False, retries=TRIES - 1)
                    self.client.loop.add_callback(wait_for, nth)
                with suppress(Empty):
                    nth, *found = inbox.get(timeout=REPORT_EVERY)
                    if len(found) == 1:
                        del away[nth]
                        if isinstance(found[0], CancelledError):  # by others, or as the scheduler is gone
                            waiting.append(nth)
                            self._look_due = 0.0
                        else:
                            yield _ended(nth, found[0])
                    elif nth in away:
                        on_progress(nth, *found)
                if stop.requested:
                    raise StoppedError
        finally:
            with suppress(OSError, RuntimeError):  # the cluster may be gone, which is known by now
                self.client.unsubscribe_topic(topic)
                self.client.cancel(list(away.values()))
                self.client.run(end_idle, on_error="ignore", callback_timeout=CONNECT_TIMEOUT)

    def _room(self, threads: int) -> int:
        """Return how many cells of so many threads each keep all workers busy.

        Raises:
            ClusterError: the scheduler is gone, or all workers are.
        """
        if (now := time.monotonic()) >= self._look_due:
            self._look_due = now + LOOK_EVERY
            self._at_once = sum(max(1, count // threads) for count in self.threads().values())
            self._seen = now if self._at_once else self._seen
            if now - self._seen > NO_WORKERS_TIMEOUT:
                raise ClusterError(
                    f"all workers of {self.address} are gone\n"
                    "what has ended is kept, and the same command goes on when there are some again"
                )
        # With several threads each, more than can be trained at a time would be trained by the threads of others.
        return self._at_once * CELLS_PER_THREAD if threads == 1 else self._at_once

    def threads(self) -> dict[str, int]:
        """Return how many threads each worker has, by its address.

        Raises:
            ClusterError: the scheduler does not answer.
        """
        try:
            found: dict[str, int] = self.client.nthreads(callback_timeout=CALL_TIMEOUT)
        except (OSError, ValueError, RuntimeError):  # TimeoutError and CommClosedError are OSErrors; a closed client
            raise ClusterError(
                f"the scheduler at {self.address} no longer answers\n"
                "what has ended is kept, and the same command goes on when it is back"
            ) from None
        return found

    def _check_workers(self) -> None:
        """Raise a ClusterError unless there are workers, and each has the versions that are here."""
        try:
            self.client.wait_for_workers(1, timeout=CONNECT_TIMEOUT)
        except TimeoutError:
            raise ClusterError(
                f"the scheduler at {self.address} has no workers; start one: dask worker {self.address}"
            ) from None
        try:
            found: dict[str, Any] = self.client.run(versions, on_error="return", callback_timeout=CALL_TIMEOUT)
        except OSError:
            raise ClusterError(
                f"the workers of {self.address} do not answer within {CALL_TIMEOUT:g} seconds"
            ) from None
        try:  # it reads what is sent, and trains nothing
            self.client.run_on_scheduler(versions, callback_timeout=CALL_TIMEOUT)
        except ImportError as error:
            raise ClusterError(_cannot_import("the scheduler", error)) from None
        for address, installed in found.items():
            if isinstance(installed, ImportError):
                raise ClusterError(_cannot_import(f"worker {address}", installed))
            if isinstance(installed, dict):  # one that has gone meanwhile is no dict
                check_versions(f"worker {address}", installed, versions())


def _ended(nth: int, outcome: Any) -> Ended:
    """Return the cell that has ended, from what came of its future: a block, or an error."""
    from distributed import KilledWorker

    if isinstance(outcome, Block):
        return Ended(nth, outcome)
    if isinstance(outcome, GradlabError):
        raise outcome
    if isinstance(outcome, ImportError):
        raise ClusterError(_cannot_import("a worker", outcome))
    if isinstance(outcome, KilledWorker):
        return Ended(nth, None, f"the workers that trained it ended, the last of them {outcome.last_worker.address}")
    known = isinstance(outcome, ProcessEndedError)
    return Ended(nth, None, str(outcome) if known else f"{type(outcome).__name__}: {shortened(outcome, 150)}")


def _cannot_import(who: str, error: ImportError) -> str:
    return f"{who} cannot import gradlab as it is here: {shortened(error, 150)}; install the same there"


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """Yield a client of the scheduler at an address, or of the one that has written such a file."""
    try:
        from distributed import Client, Security, connect
    except ImportError:
        raise ClusterError("--dask needs the package distributed: pip install 'gradlab[dask]'") from None

    async def knock(scheduler: str) -> None:  # a client that is begun in vain takes its time to end
        there = await connect(scheduler, timeout=CONNECT_TIMEOUT, **Security().get_connection_args("client"))
        await there.close()

    try:
        scheduler = json.loads(Path(address).read_text())["address"] if address.endswith(".json") else address
        asyncio.run(knock(scheduler))
        client: Client = Client(scheduler, timeout=CONNECT_TIMEOUT, set_as_default=False)
    except FileNotFoundError:
        raise ClusterError(f"--dask {shortened(address)}: there is no such file of a scheduler") from None
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError) as error:
        nobody = f"nothing answers there within {CONNECT_TIMEOUT:g} seconds"
        why = nobody if isinstance(error, OSError) else shortened(error, 150)
        raise ClusterError(
            f"--dask {shortened(address)}: {why}\n"
            "`dask scheduler` starts one, and prints its address, such as tcp://10.0.0.1:8786"
        ) from None
    try:
        yield client
    finally:
        client.close(timeout=CONNECT_TIMEOUT)


# On a worker

_idle: list[TrainingProcess] = []  # of this worker; a list's pop and append need no lock


class ProcessEndedError(Exception):
    """The process that trained a cell is gone: Dask lets it be tried again."""


def train_on_worker(shipment: Shipment, topic: str, nth: int) -> Block | GradlabError:
    """Train a cell on the Dask worker that this is called on, in a process of its own.

    Args:
        shipment: the cell.
        topic: of the events that report progress: (nth, steps, share).
        nth: the place of the cell in the sweep.

    Returns:
        What came of the runs, or what a user can fix: Dask would retry what is raised.

    Raises:
        ProcessEndedError: the process died, or nobody waits for the cell any more.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    report = throttled(lambda steps, share: worker.log_event(topic, (nth, steps, share)), CELL_REPORT_EVERY)
    multiprocessing.current_process().daemon = False  # a worker of a nanny is one, and could start no process
    process = _idle_process() or TrainingProcess(IDLE_TIMEOUT)
    process.begin(train_shipment, (shipment, Path(worker.local_directory) / "gradlab"))
    with suppress(EOFError, OSError):
        while (task := worker.state.tasks.get(key)) and task.state in ("executing", "long-running"):
            if process.pipe.poll(REPORT_EVERY):
                message = process.receive()
                if isinstance(message, Block | GradlabError):
                    _idle.append(process)
                    return message
                report(*message)
    raise ProcessEndedError(process.end())


def _idle_process() -> TrainingProcess | None:
    with suppress(IndexError):
        while True:
            process = _idle.pop()
            if process.process.is_alive():
                return process
            process.end()
    return None


def end_idle() -> None:
    """End the processes of this worker that train nothing."""
    gone = _idle.copy()
    del _idle[: len(gone)]
    end_all(gone)
