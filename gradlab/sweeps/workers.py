"""Where cells are trained: in this process, or in several of this machine. Results are the same wherever.

An executor is a function that takes the grid, the cells that are to be trained and the wish to stop, reports how far
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
from functools import partial
from multiprocessing import connection, resource_tracker
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeVar

from gradlab import startup
from gradlab.errors import GradlabError
from gradlab.runs import REPORT_EVERY, StoppedError
from gradlab.store import Block
from gradlab.sweeps.cells import cell_of
from gradlab.sweeps.training import train_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from gradlab.runs import Stop
    from gradlab.sweeps.grid import Grid
    from gradlab.sweeps.training import OnProgress

    OnCellProgress = Callable[[int, int, float], object]

T = TypeVar("T")
TRIES = 3  # of a cell whose process dies
END_TIMEOUT = 0.5  # seconds a process may take to end after SIGTERM


class Ended(NamedTuple):
    """A cell that has ended.

    Attributes:
        nth: which one, in the order given.
        block: results of its runs; None where its process died at every try.
        error: how the process ended then.
    """

    nth: int
    block: Block | None
    error: str = ""


class Executor(Protocol):
    """Trains cells somewhere."""

    def __call__(
        self, grid: Grid, cells: Sequence[tuple[int, ...]], on_progress: OnCellProgress, stop: Stop
    ) -> Iterator[Ended]:
        """Yield each cell as it ends.

        Args:
            grid: all that decides the runs.
            cells: the numbers of the runs of each.
            on_progress: called when a cell begins, and now and then, with the place of the cell, the steps of its runs
                so far and the share of it that is done.
            stop: looked at some ten times a second.

        Raises:
            StoppedError: `stop` was asked for; nothing that was started is left behind.
            GradlabError: what a user can fix.
        """


def train_in_process(
    grid: Grid, cells: Sequence[tuple[int, ...]], on_progress: OnCellProgress, stop: Stop
) -> Iterator[Ended]:
    """Train one cell after the other in this process; an `Executor`."""
    for nth, cell in enumerate(cells):
        report = throttled(partial(on_progress, nth))
        report(0, 0.0)

        def go_on(steps: int, share: float, report: OnProgress = report) -> None:
            if stop.requested:
                raise StoppedError
            report(steps, share)

        yield Ended(nth, train_cell(cell_of(grid, cell), go_on))


def throttled(report: OnProgress, every: float = REPORT_EVERY) -> OnProgress:
    """Return a function that passes on what it is called with at most once in so many seconds."""
    due = 0.0

    def report_when_due(steps: int, share: float) -> None:
        nonlocal due
        if (now := time.monotonic()) >= due:
            due = now + every
            report(steps, share)

    return report_when_due


class Workers:
    """Processes of this machine, each of which trains one cell after the other; called, an `Executor`.

    They start, and import torch, when it is entered, and end when it is left.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.processes: list[TrainingProcess] = []

    def __enter__(self) -> Self:
        for _ in range(self.count):
            self.processes.append(TrainingProcess())
        return self

    def __exit__(self, *_: object) -> None:
        end_all(self.processes)

    def __call__(
        self, grid: Grid, cells: Sequence[tuple[int, ...]], on_progress: OnCellProgress, stop: Stop
    ) -> Iterator[Ended]:
        """Train the cells; see `Executor`."""
        waiting, tries = deque(range(len(cells))), [0] * len(cells)
        idle, busy = self.processes.copy(), dict[TrainingProcess, int]()
        while waiting or busy:
            while len(self.processes) < min(self.count, len(waiting)):  # one has died
                self.processes.append(TrainingProcess())
                idle.append(self.processes[-1])
            while waiting and idle:
                process = idle.pop(0)
                nth = busy[process] = waiting.popleft()
                tries[nth] += 1
                process.begin(train_cell, cell_of(grid, cells[nth]))
            ready = connection.wait([process.pipe for process in busy], REPORT_EVERY)
            if stop.requested:
                raise StoppedError
            for process in [process for process in busy if process.pipe in ready]:
                try:
                    message = process.receive()
                except (EOFError, OSError):
                    how, nth = process.end(), busy.pop(process)
                    self.processes.remove(process)
                    if tries[nth] < TRIES:
                        waiting.append(nth)
                    else:
                        yield Ended(nth, None, how)
                    continue
                if isinstance(message, GradlabError):
                    raise message
                if isinstance(message, Block):
                    idle.append(process)
                    yield Ended(busy.pop(process), message)
                else:
                    on_progress(busy[process], *message)


class TrainingProcess:
    """A process that trains cells, one after the other, for as long as the one that started it is there."""

    def __init__(self, idle: float | None = None) -> None:
        """Start it; it ends by itself when it is given no cell for `idle` seconds."""
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process: SpawnProcess = spawn.Process(target=_serve, args=(theirs, idle), name="gradlab", daemon=True)
        with _ctrl_c_blocked():
            self.process.start()
        theirs.close()

    def begin(self, train: Callable[[T, OnProgress], Block], cell: T) -> None:
        """Let it train a cell by this function; a dead process is noticed by `receive`."""
        with suppress(OSError):
            self.pipe.send((train, cell))

    def receive(self) -> Block | GradlabError | tuple[int, float]:
        """Return the block, or what a user can fix; before, now and then, the steps so far and the share that is done.

        Raises:
            EOFError, OSError: the process is gone.
        """
        message: Block | GradlabError | tuple[int, float] = self.pipe.recv()
        return message

    def end(self) -> str:
        """End the process, and say how it ended."""
        self.process.join(END_TIMEOUT / 10)  # it may be ending by itself
        self.process.terminate()
        self.process.join(END_TIMEOUT)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        status = self.process.exitcode
        self.pipe.close()
        self.process.close()
        if status is not None and status < 0:
            with suppress(ValueError):
                return f"the process that trained it was ended by {signal.Signals(-status).name}"
        return f"the process that trained it ended with status {status}"


def end_all(processes: Sequence[TrainingProcess]) -> None:
    """End processes, all at once."""
    for each in processes:
        each.process.terminate()
    for each in processes:
        each.end()


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach, from their first instruction on: this one handles it."""
    if not hasattr(signal, "pthread_sigmask"):  # not on Windows
        yield
        return
    resource_tracker.ensure_running()  # which would unblock it again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(parent: Connection, idle: float | None) -> None:
    """Train cells as they come, in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    multiprocessing.current_process().daemon = False  # a task may start processes, such as those of a DataLoader
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        os.dup2(2, 1)  # what a user's task prints is talk
    startup.OURS = True
    startup.import_torch()
    with suppress(EOFError, OSError):  # the parent is gone
        while parent.poll(idle):
            train, cell = parent.recv()
            parent.send(_train(train, cell, parent))


def _train(train: Callable[[Any, OnProgress], Block], cell: Any, parent: Connection) -> Block | GradlabError:
    """Train a cell, and send the parent how far it is now and then."""
    report = throttled(lambda steps, share: parent.send((steps, share)))
    report(0, 0.0)
    try:
        return train(cell, report)
    except GradlabError as error:
        return error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a process of several"
    connection.wait([parent.sentinel])
    os._exit(1)
