"""Executors: train cells in this process or in several processes, with the same results."""

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
from types import ModuleType
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
TRIES = 3  # for a cell whose process dies
END_TIMEOUT = 0.5  # seconds a process may take to end after SIGTERM


class Ended(NamedTuple):
    """A cell that has ended.

    Attributes:
        nth: the position of the cell in the given order.
        block: the results of its runs; None if its process died at every try.
        error: how the process ended, else "".
    """

    nth: int
    block: Block | None
    error: str = ""


class Executor(Protocol):
    """Trains cells, reports progress, and yields each result."""

    def __call__(
        self, grid: Grid, cells: Sequence[tuple[int, ...]], on_progress: OnCellProgress, stop: Stop
    ) -> Iterator[Ended]:
        """Yield each cell when it ends, in any order.

        Args:
            grid: the grid of runs.
            cells: the run numbers of each cell.
            on_progress: called at the start of a cell and regularly after that, with the position of the cell, the
                steps of its runs so far and its finished fraction.
            stop: the stop request, checked about ten times per second.

        Raises:
            StoppedError: a stop was requested. Nothing is left running.
            GradlabError: an error that the user can fix.
        """


def train_in_process(
    grid: Grid, cells: Sequence[tuple[int, ...]], on_progress: OnCellProgress, stop: Stop
) -> Iterator[Ended]:
    """Train cells sequentially in this process; an `Executor`."""
    for nth, cell in enumerate(cells):
        report = throttled(partial(on_progress, nth))
        report(0, 0.0)

        def report_or_stop(steps: int, share: float, report: OnProgress = report) -> None:
            if stop.requested:
                raise StoppedError
            report(steps, share)

        yield Ended(nth, train_cell(cell_of(grid, cell), report_or_stop))


def throttled(report: OnProgress, every: float = REPORT_EVERY) -> OnProgress:
    """Return `report` limited to one call per `every` seconds; further calls are dropped."""
    due = 0.0

    def report_when_due(steps: int, share: float) -> None:
        nonlocal due
        if (now := time.monotonic()) >= due:
            due = now + every
            report(steps, share)

    return report_when_due


class Workers:
    """Processes that train cells: an `Executor`, and a context manager that starts and ends them."""

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
            while len(self.processes) < min(self.count, len(waiting)):  # a process died
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
    """A process that trains cells sequentially, until its parent ends."""

    def __init__(self, idle: float | None = None) -> None:
        """Start the process. It exits after `idle` seconds without a cell."""
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process: SpawnProcess = spawn.Process(target=_serve, args=(theirs, idle), name="gradlab", daemon=True)
        with _ctrl_c_blocked(), _main_module_hidden():
            self.process.start()
        theirs.close()

    def begin(self, train: Callable[[T, OnProgress], Block], cell: T) -> None:
        """Start training a cell with this function; if the process is dead, `receive` raises."""
        with suppress(OSError):
            self.pipe.send((train, cell))

    def receive(self) -> Block | GradlabError | tuple[int, float]:
        """Return the next message: progress (steps, share), or finally a block or an error that the user can fix.

        Raises:
            EOFError, OSError: the process is gone.
        """
        message: Block | GradlabError | tuple[int, float] = self.pipe.recv()
        return message

    def end(self) -> str:
        """End the process and return how it ended."""
        self.process.join(END_TIMEOUT / 10)  # it may be ending already
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
                return f"the training process was killed by {signal.Signals(-status).name}"
        return f"the training process exited with status {status}"


def end_all(processes: Sequence[TrainingProcess]) -> None:
    """End processes in parallel."""
    for each in processes:
        each.process.terminate()
    for each in processes:
        each.end()


@contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Keep processes that start here from importing the user's script again, which would run it."""
    before = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = before


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Block Ctrl-C for processes started here, from their first instruction; this process handles it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # otherwise it would start later and unblock SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(parent: Connection, idle: float | None) -> None:
    """Train cells as they arrive; runs in the child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    multiprocessing.current_process().daemon = False  # a task may start processes, such as a DataLoader's workers
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        os.dup2(2, 1)  # output of the user's task goes to stderr
    startup.OURS = True
    startup.import_torch()
    with suppress(EOFError, OSError):  # the parent is gone
        while parent.poll(idle):
            train, cell = parent.recv()
            parent.send(_train(train, cell, parent))


def _train(train: Callable[[Any, OnProgress], Block], cell: Any, parent: Connection) -> Block | GradlabError:
    """Train a cell and send progress to the parent."""
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
