"""Cells on a Dask cluster, with the same results as on this machine.

A Dask worker starts processes that train, like `workers` on this machine. It does not train in its own process: Dask
draws from Python's global generators there, and a task could not be stopped.
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
from gradlab.wording import either

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from distributed import Client, Future

    from gradlab.runs import Stop
    from gradlab.sweeps.grid import Grid
    from gradlab.sweeps.workers import OnCellProgress

CONNECT_TIMEOUT = 5.0  # seconds to wait for the scheduler, and again for its workers
CALL_TIMEOUT = 30.0  # seconds for a call to all workers
LOOK_EVERY = 2.0  # seconds between checks of the workers
NO_WORKERS_TIMEOUT = 60.0  # seconds to wait for new workers once all are gone
CELLS_PER_THREAD = 2  # cells sent for each cell in training, so that the next one is ready
CELL_REPORT_EVERY = 2.0  # seconds between reports of a cell: hundreds of workers report to one scheduler
IDLE_TIMEOUT = 10.0  # seconds a process waits for another cell, which saves importing torch again
LOGGERS = ("distributed", "distributed.client", "distributed.core", "tornado.application")


class Cluster:
    """A Dask cluster: an `Executor`, and a context manager that holds the connection."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._stack = ExitStack()
        self._at_once, self._look_due, self._seen = 0, 0.0, time.monotonic()

    def __enter__(self) -> Self:
        """Connect and check the workers.

        Raises:
            ClusterError: the scheduler does not answer, has no workers, or has one with other versions.
        """
        with ExitStack() as stack:
            for logger in map(logging.getLogger, LOGGERS):  # gradlab reports errors itself, in one line
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
            ClusterError: the scheduler or all workers are gone, or a worker has other versions.
        """
        from distributed import CancelledError

        ship, topic = shipper(grid), f"gradlab-{uuid.uuid4().hex}"
        inbox: SimpleQueue[tuple[Any, ...]] = SimpleQueue()  # (nth, steps, share) or (nth, outcome)
        waiting = deque(range(len(cells)))
        away: dict[int, Future[Any]] = {}

        async def wait_for(nth: int) -> None:  # runs in the client's thread
            try:
                inbox.put((nth, await self.client.gather(away[nth], asynchronous=True)))
            except Exception as error:  # `_ended` handles it
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
                        if isinstance(found[0], CancelledError):  # someone else cancelled it, or the scheduler is gone
                            waiting.append(nth)
                            self._look_due = 0.0
                        else:
                            yield _ended(nth, found[0])
                    elif nth in away:
                        on_progress(nth, *found)
                if stop.requested:
                    raise StoppedError
        finally:
            with suppress(OSError, RuntimeError):  # the cluster may be gone, which was reported before
                self.client.unsubscribe_topic(topic)
                self.client.cancel(list(away.values()))
                self.client.run(end_idle, on_error="ignore", callback_timeout=CONNECT_TIMEOUT)

    def _room(self, threads: int) -> int:
        """Return the number of cells, of `threads` threads each, that keep all workers busy.

        Raises:
            ClusterError: the scheduler or all workers are gone.
        """
        if (now := time.monotonic()) >= self._look_due:
            self._look_due = now + LOOK_EVERY
            self._at_once = sum(max(1, count // threads) for count in self.threads().values())
            self._seen = now if self._at_once else self._seen
            if now - self._seen > NO_WORKERS_TIMEOUT:
                raise ClusterError(
                    f"all workers of {self.address} are gone\n"
                    f"finished cells are kept; {_again()} continues once workers are back"
                )
        # Cells with several threads are not queued: a free Dask thread would start one on busy cores.
        return self._at_once * CELLS_PER_THREAD if threads == 1 else self._at_once

    def threads(self) -> dict[str, int]:
        """Return the number of threads of each worker, by address.

        Raises:
            ClusterError: the scheduler does not answer.
        """
        try:
            found: dict[str, int] = self.client.nthreads(callback_timeout=CALL_TIMEOUT)
        except (OSError, ValueError, RuntimeError):  # timeout, closed connection or closed client
            raise ClusterError(
                f"the scheduler at {self.address} no longer answers\n"
                f"finished cells are kept; {_again()} continues once it is back"
            ) from None
        return found

    def _check_workers(self) -> None:
        """Raise a ClusterError unless there are workers with the versions of this machine."""
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
                f"the workers of {self.address} did not answer within {CALL_TIMEOUT:g} seconds"
            ) from None
        try:  # the scheduler trains nothing, but it deserializes the cells
            self.client.run_on_scheduler(versions, callback_timeout=CALL_TIMEOUT)
        except ImportError as error:
            raise ClusterError(_cannot_import("the scheduler", error)) from None
        for address, installed in found.items():
            if isinstance(installed, ImportError):
                raise ClusterError(_cannot_import(f"worker {address}", installed))
            if isinstance(installed, dict):  # an error if the worker is gone
                check_versions(f"worker {address}", installed, versions())


def _ended(nth: int, outcome: Any) -> Ended:
    """Return the ended cell for the outcome of its future: a block or an error."""
    from distributed import KilledWorker

    if isinstance(outcome, Block):
        return Ended(nth, outcome)
    if isinstance(outcome, GradlabError):
        raise outcome
    if isinstance(outcome, ImportError):
        raise ClusterError(_cannot_import("a worker", outcome))
    if isinstance(outcome, KilledWorker):
        return Ended(nth, None, f"its workers died, the last one at {outcome.last_worker.address}")
    known = isinstance(outcome, ProcessEndedError)
    return Ended(nth, None, str(outcome) if known else f"{type(outcome).__name__}: {shortened(outcome, 150)}")


def _cannot_import(who: str, error: ImportError) -> str:
    return f"{who} cannot import this version of gradlab: {shortened(error, 150)}; install the same version there"


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """Yield a client of the scheduler at an address or in a scheduler file."""
    try:
        from distributed import Client, Security, connect
    except ImportError:
        raise ClusterError(
            f"{either('--dask', 'dask')} needs the package distributed: pip install 'gradlab[dask]'"
        ) from None

    asked = either(f"--dask {shortened(address)}", f"dask={shortened(repr(address))}")

    async def knock(scheduler: str) -> None:  # quicker than a client that fails to connect
        there = await connect(scheduler, timeout=CONNECT_TIMEOUT, **Security().get_connection_args("client"))
        await there.close()

    try:
        scheduler = json.loads(Path(address).read_text())["address"] if address.endswith(".json") else address
        asyncio.run(knock(scheduler))
        client: Client = Client(scheduler, timeout=CONNECT_TIMEOUT, set_as_default=False)
    except FileNotFoundError:
        raise ClusterError(f"{asked}: no such scheduler file") from None
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError) as error:
        nobody = f"no answer within {CONNECT_TIMEOUT:g} seconds"
        why = nobody if isinstance(error, OSError) else shortened(error, 150)
        raise ClusterError(
            f"{asked}: {why}\n`dask scheduler` starts a scheduler and prints its address, such as tcp://10.0.0.1:8786"
        ) from None
    try:
        yield client
    finally:
        client.close(timeout=CONNECT_TIMEOUT)


# On a worker

_idle: list[TrainingProcess] = []  # processes of this worker; a list's pop and append need no lock


class ProcessEndedError(Exception):
    """The process that trained a cell died; Dask retries the cell."""


def train_on_worker(shipment: Shipment, topic: str, nth: int) -> Block | GradlabError:
    """Train a cell on the Dask worker that calls this, in a separate process.

    Args:
        shipment: the cell.
        topic: the topic of progress events, (nth, steps, share).
        nth: the position of the cell in the sweep.

    Returns:
        The results, or an error that the user can fix. It is not raised, since Dask would retry the cell.

    Raises:
        ProcessEndedError: the process died, or the cell was cancelled.
    """
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    report = throttled(lambda steps, share: worker.log_event(topic, (nth, steps, share)), CELL_REPORT_EVERY)
    multiprocessing.current_process().daemon = False  # under a nanny it is a daemon, which cannot start processes
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
    """End the idle processes of this worker."""
    gone = _idle.copy()
    del _idle[: len(gone)]
    end_all(gone)


def _again() -> str:
    return either("the same command", "the same call")
