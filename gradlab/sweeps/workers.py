"""Where cells are trained: in this process, or in several of this machine. Results are the same wherever.

An executor is a function that takes the grid, the cells that are to be trained and the wish to stop, is told how far
they are, and yields what came of each as it ends, in any order.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from gradlab import errors, startup
from gradlab.errors import GradlabError
from gradlab.runs import TELL_EVERY, StoppedError
from gradlab.sweeps.cells import train_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from gradlab.runs import Stop
    from gradlab.store import Block
    from gradlab.sweeps.grid import Grid

TRIES = 3  # of a cell whose process ended without a word
PATIENCE = 0.5  # seconds a process may take to end when it is told to


class Ended(NamedTuple):
    """A cell that has ended.

    Attributes:
        nth: which one, in the order given.
        block: what came of its runs; None where the processes that trained it ended without a word, time and again.
        error: how they ended then.
    """

    nth: int
    block: Block | None
    error: str = ""


class Executor(Protocol):
    """Trains cells somewhere."""

    def __call__(
        self, grid: Grid, cells: Sequence[tuple[int, ...]], tell: Callable[[int, int, float], object], stop: Stop
    ) -> Iterator[Ended]:
        """Yield each cell as it ends.

        Args:
            grid: all that decides the runs.
            cells: the numbers of the runs of each.
            tell: called when a cell begins, and now and then, with the place of the cell, the steps of its runs so far
                and the share of it that is done.
            stop: looked at some ten times a second.

        Raises:
            StoppedError: `stop` was asked for; nothing that was started is left behind.
            GradlabError: what a user can fix.
        """


def here(
    grid: Grid, cells: Sequence[tuple[int, ...]], tell: Callable[[int, int, float], object], stop: Stop
) -> Iterator[Ended]:
    """Train one cell after the other in this process; an `Executor`."""
    for nth, cell in enumerate(cells):
        due = 0.0
        tell(nth, 0, 0.0)

        def now_and_then(steps: int, share: float, nth: int = nth) -> None:
            nonlocal due
            if stop.requested:
                raise StoppedError
            if (now := time.monotonic()) >= due:
                due = now + TELL_EVERY
                tell(nth, steps, share)

        yield Ended(nth, train_cell(grid, cell, now_and_then))


class Workers:
    """Processes of this machine, each of which trains one cell after the other; called, an `Executor`.

    They import torch from when they are entered, and are gone when it is left.
    """

    def __init__(self, count: int, grid: Grid) -> None:
        self.count, self.grid = count, grid
        self.workers: list[_Worker] = []

    def __enter__(self) -> Self:
        try:
            self.workers = [_Worker(self.grid) for _ in range(self.count)]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.process.terminate()
        for worker in self.workers:
            worker.end()

    def __call__(
        self, grid: Grid, cells: Sequence[tuple[int, ...]], tell: Callable[[int, int, float], object], stop: Stop
    ) -> Iterator[Ended]:
        """Train the cells; see `Executor`."""
        assert grid == self.grid, "these processes have another grid"
        waiting, tries = deque(range(len(cells))), dict.fromkeys(range(len(cells)), 0)
        while waiting or any(worker.cell is not None for worker in self.workers):
            while len(self.workers) < min(self.count, len(waiting)):  # one has ended without a word
                self.workers.append(_Worker(self.grid))
            for worker in self.workers:
                if worker.cell is None and waiting:
                    tries[waiting[0]] += 1
                    worker.begin(waiting[0], cells[waiting.popleft()])
            busy = {worker.reads: worker for worker in self.workers if worker.cell is not None}
            heard = connection.wait(list(busy), TELL_EVERY)
            if stop.requested:
                raise StoppedError
            for reads in heard:
                worker = busy[reads]  # type: ignore[index]  # what `wait` was given is what it returns
                ended = worker.hear(tell)
                if ended is not None and ended.block is None:  # the process is gone
                    self.workers.remove(worker)
                    worker.end()
                    if tries[ended.nth] < TRIES:
                        waiting.append(ended.nth)
                        continue
                if ended is not None:
                    yield ended


class _Worker:
    """A process that trains cells, and what it is at."""

    def __init__(self, grid: Grid) -> None:
        self.cell: int | None = None
        self.reads, theirs = multiprocessing.get_context("spawn").Pipe()
        self.process: SpawnProcess = multiprocessing.get_context("spawn").Process(
            target=_work, args=(theirs, grid), name="gradlab sweep"
        )
        with _deaf_to_ctrl_c():
            self.process.start()
        theirs.close()

    def begin(self, nth: int, cell: tuple[int, ...]) -> None:
        """Let it train a cell; that it is gone is heard later."""
        self.cell = nth
        with suppress(OSError):
            self.reads.send(cell)

    def hear(self, tell: Callable[[int, int, float], object]) -> Ended | None:
        """Return the cell if it has ended."""
        assert self.cell is not None, "it trains nothing"
        nth = self.cell
        try:
            kind, *rest = self.reads.recv()
        except (EOFError, OSError):
            self.process.join(PATIENCE)
            self.cell = None
            return Ended(nth, None, how_ended(self.process.exitcode))
        if kind == "at":
            tell(nth, *rest)
            return None
        if kind == "fault":
            name, message = rest
            raise kinds()[name](message)
        self.cell = None
        return Ended(nth, rest[0])

    def end(self) -> None:
        """Let it be gone."""
        self.process.terminate()
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.reads.close()
        self.process.close()


def how_ended(status: int | None) -> str:
    """Say how a process ended that should not have."""
    if status is not None and status < 0:
        with suppress(ValueError):
            return f"the process that trained it was ended by {signal.Signals(-status).name}"
    return f"the process that trained it ended with status {status}"


def kinds() -> dict[str, type[GradlabError]]:
    """Return the errors that a user can fix by their names, as which they come from other processes."""
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, GradlabError)]
    return {each.__name__: each for each in found}


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach, from their first instruction on: this one hears it."""
    if not hasattr(signal, "pthread_sigmask"):  # not on Windows
        yield
        return
    resource_tracker.ensure_running()  # which would unblock it again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(parent: Connection, grid: Grid) -> None:
    """Train cells as they come, in a process of its own, for as long as the one that started it is there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        os.dup2(2, 1)  # what a user's task prints is talk
    startup.OURS = True
    startup.import_torch()
    import torch

    torch.set_num_threads(grid.experiment["threads"])
    with suppress(EOFError, OSError):  # the parent is gone
        while True:
            parent.send(answer(grid, parent.recv(), parent))


def answer(grid: Grid, cell: Sequence[int], parent: Connection) -> tuple[Any, ...]:
    """Train a cell in a process of its own: tell the parent ("at", steps, share) now and then, and return what came.

    That is ("block", block), or ("fault", name of the error, message) where it is one that a user can fix.
    """
    due = 0.0

    def now_and_then(steps: int, share: float) -> None:
        nonlocal due
        if (now := time.monotonic()) >= due:
            due = now + TELL_EVERY
            parent.send(("at", steps, share))

    parent.send(("at", 0, 0.0))
    try:
        return "block", train_cell(grid, cell, now_and_then)
    except GradlabError as error:
        return "fault", type(error).__name__, str(error)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a process of several"
    connection.wait([parent.sentinel])
    os._exit(1)
