"""Cells on a Dask cluster: the same as on this machine, as futures of any scheduler, with the same results."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import Counter, deque
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from gradlab.errors import ClusterError, shortened
from gradlab.runs import TELL_EVERY, StoppedError
from gradlab.sweeps import remote, shipping
from gradlab.sweeps.workers import TRIES, Ended, kinds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from distributed import Client, Future

    from gradlab.runs import Stop
    from gradlab.sweeps.grid import Grid
    from gradlab.sweeps.shipping import Shipper

CONNECT = 5.0  # seconds to wait for the scheduler, and as many for its workers
LOOK = 30.0  # seconds that looking at all workers may take
REFRESH = 2.0  # seconds between two looks at which workers there are
ALONE = 60.0  # seconds to wait for workers to come back when all are gone
AHEAD = 2  # cells for each that is trained at a time: the next one is there when one ends
EVENTS = 100.0  # told by all workers in a second, at most
_LOGGERS = ("distributed", "distributed.client", "distributed.core", "tornado.application")


class Cluster:
    """A Dask cluster; called, an `Executor`. It is connected to from when it is entered until it is left."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.notice = ""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Connect, and look at the workers that are there.

        Raises:
            ClusterError: there is no such scheduler, no worker, or one that cannot train what is trained here.
        """
        _find_dask()
        with ExitStack() as stack:
            stack.enter_context(_quiet())
            self.client: Client = stack.enter_context(_connected(self.address))
            self._look()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(
        self, grid: Grid, cells: Sequence[tuple[int, ...]], tell: Callable[[int, int, float], object], stop: Stop
    ) -> Iterator[Ended]:
        """Train the cells; see `Executor`.

        Raises:
            ClusterError: the scheduler is gone, or all workers are, or one cannot train what is trained here.
        """
        sweep = _Sweep(self, shipping.shipper(grid), cells)
        try:
            yield from sweep.run(tell, stop)
        finally:
            sweep.end()

    def threads(self) -> dict[str, int]:
        """Return how many threads each worker has, by its address.

        Raises:
            ClusterError: the scheduler does not answer.
        """
        try:
            found: dict[str, int] = self.client.nthreads(callback_timeout=LOOK)
        except (OSError, ValueError, RuntimeError):  # TimeoutError and CommClosedError are OSErrors; a closed client
            raise ClusterError(
                f"the scheduler at {self.address} no longer answers\n"
                "what has ended is kept, and the same command goes on when it is back"
            ) from None
        return found

    def _look(self) -> None:
        """Raise a ClusterError unless there are workers, and each has the versions that are here."""
        due = time.monotonic() + CONNECT
        while not self.threads():
            if time.monotonic() >= due:
                raise ClusterError(
                    f"the scheduler at {self.address} has no workers; start one: dask worker {self.address}"
                )
            time.sleep(TELL_EVERY)
        here = remote.versions()
        try:
            found: dict[str, Any] = self.client.run(remote.versions, on_error="return", callback_timeout=LOOK)
        except OSError:
            raise ClusterError(f"the workers of {self.address} do not answer within {LOOK:g} seconds") from None
        try:  # it reads what is sent, and trains nothing
            self.client.run_on_scheduler(remote.versions, callback_timeout=LOOK)
        except ImportError as error:
            raise ClusterError(_not_there("the scheduler", error)) from None
        for address, versions in found.items():
            if isinstance(versions, ImportError):
                raise ClusterError(_not_there(f"worker {address}", versions))
            if isinstance(versions, dict) and versions != here:  # one that has gone meanwhile is no dict
                raise ClusterError(shipping.unlike(f"worker {address}", versions, here))


class _Sweep:
    """The cells of a sweep that are to be trained, and those that are on their way."""

    def __init__(self, cluster: Cluster, shipper: Shipper, cells: Sequence[tuple[int, ...]]) -> None:
        self.cluster, self.client, self.shipper, self.cells = cluster, cluster.client, shipper, cells
        self.name = f"gradlab-{uuid.uuid4().hex}"
        self.heard: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self.waiting = deque(range(len(cells)))
        self.tries: Counter[int] = Counter()
        self.away: dict[int, Future[Any]] = {}
        self.begun: set[int] = set()
        self.room, self.every = 0, TELL_EVERY
        self.due = 0.0
        self.seen = time.monotonic()  # workers, for the last time
        self.client.subscribe_topic(self.name, lambda event: self.heard.put(("at", *event[1])))

    def run(self, tell: Callable[[int, int, float], object], stop: Stop) -> Iterator[Ended]:
        """Yield each cell as it ends."""
        while self.waiting or self.away:
            self._refresh()
            while self.waiting and len(self.away) < self.room:
                self._send(self.waiting.popleft())
            try:
                kind, nth, *rest = self.heard.get(timeout=TELL_EVERY)
            except Empty:
                kind = "nothing"
            if stop.requested:
                raise StoppedError
            if kind == "at" and nth in self.away:
                self.begun.add(nth)
                tell(nth, *rest)
            elif kind == "answer" and (ended := self._ended(nth, *rest)):
                if nth not in self.begun:  # it was too quick to be heard of
                    tell(nth, 0, 0.0)
                yield ended

    def end(self) -> None:
        """Take back what is queued, and let what is trained be stopped."""
        with suppress(OSError, RuntimeError):  # the cluster may be gone, which is known by now
            self.client.unsubscribe_topic(self.name)
            self.client.cancel(list(self.away.values()))
            self.client.run(remote.let_go, on_error="ignore", callback_timeout=CONNECT)

    def _refresh(self) -> None:
        """Look now and then how many cells may be on their way: no more than keep all workers busy."""
        if (now := time.monotonic()) < self.due:
            return
        self.due = now + REFRESH
        workers = self.cluster.threads()
        threads = self.shipper.grid.experiment["threads"]
        at_a_time = sum(max(1, count // threads) for count in workers.values())
        self.room = at_a_time * AHEAD if threads == 1 else at_a_time  # more would be trained by threads of others
        self.every = max(1.0, at_a_time / EVENTS)
        if workers:
            self.seen = now
        elif now - self.seen > ALONE:
            raise ClusterError(
                f"all workers of {self.cluster.address} are gone\n"
                "what has ended is kept, and the same command goes on when there are some again"
            )

    def _send(self, nth: int) -> None:
        """Send a cell on its way."""
        key = f"{self.name}-{nth}-{self.tries[nth]}"
        shipment = self.shipper.pack(self.cells[nth])
        future = self.client.submit(remote.train, shipment, self.name, nth, self.every, key=key, pure=False)
        self.away[nth] = future
        self.client.loop.add_callback(self._follow, nth, future)

    async def _follow(self, nth: int, future: Future[Any]) -> None:
        """Wait for what comes of a cell, in the thread of the client."""
        try:
            answer: Any = await self.client.gather(future, asynchronous=True)
        except Exception as error:  # it is told apart where it is heard
            answer = error
        self.heard.put(("answer", nth, future.key, answer))

    def _ended(self, nth: int, key: str, answer: Any) -> Ended | None:
        """Return the cell whose answer is there; None where it is tried again, or of a try that was given up."""
        from distributed import KilledWorker

        if nth not in self.away or self.away[nth].key != key:
            return None
        del self.away[nth]
        if isinstance(answer, ImportError):
            raise ClusterError(_not_there("a worker", answer))
        if isinstance(answer, KilledWorker):
            self.tries[nth] += answer.allowed_failures + 1
            how = f"the workers that trained it ended, the last of them {answer.last_worker.address}"
        elif isinstance(answer, BaseException):
            self.tries[nth] += 1
            how = f"{type(answer).__name__}: {shortened(answer, 150)}"
        else:
            kind, *rest = answer
            if kind == "block":
                return Ended(nth, rest[0])
            if kind == "fault":
                name, message = rest
                raise kinds()[name](message)
            self.tries[nth] += 1
            how = rest[0]
        if self.tries[nth] < TRIES:
            self.waiting.append(nth)
            return None
        return Ended(nth, None, how)


def _not_there(who: str, error: ImportError) -> str:
    return f"{who} cannot import gradlab as it is here: {shortened(error, 150)}; install the same there"


def _find_dask() -> None:
    try:
        import distributed  # noqa: F401 - it sets up its loggers, which is to be over
    except ImportError:
        raise ClusterError("--dask needs the package distributed: pip install 'gradlab[dask]'") from None


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """Yield a client of the scheduler at an address, or of the one that has written such a file."""
    from distributed import Client

    try:
        scheduler = json.loads(Path(address).read_text())["address"] if address.endswith(".json") else address
        asyncio.run(_knock(scheduler))
        client: Client = Client(scheduler, timeout=CONNECT, set_as_default=False)
    except FileNotFoundError:
        raise ClusterError(f"--dask {shortened(address)}: there is no such file of a scheduler") from None
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError) as error:
        nobody = f"nothing answers there within {CONNECT:g} seconds"
        why = nobody if isinstance(error, OSError) else shortened(error, 150)
        raise ClusterError(
            f"--dask {shortened(address)}: {why}\n"
            "`dask scheduler` starts one, and prints its address, such as tcp://10.0.0.1:8786"
        ) from None
    try:
        yield client
    finally:
        client.close(timeout=CONNECT)


async def _knock(address: str) -> None:
    """Raise what keeps a scheduler from being reached: a client that was begun in vain takes its time to end."""
    from distributed import Security, connect

    there = await connect(address, timeout=CONNECT, **Security().get_connection_args("client"))
    await there.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Dask say nothing on stderr: what a user can do about it is told in a line."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
