"""Progress of runs and sweeps: a bar on a terminal, a line of text every ten seconds elsewhere."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gradlab.runs.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from gradlab.analysis.results import Result

NARROW = 60  # columns; a bar needs more
INTERVAL = 10.0  # seconds between two lines


class Status(NamedTuple):
    """A point in a training, and its texts."""

    done: float
    total: float | None  # None if unknown
    what: str  # text before the bar
    measured: list[str]  # rate and time left, after the bar
    narrow: str  # the whole text on a narrow terminal, without a bar
    line: str  # the whole text in a log file


class Display(Protocol):
    """Shows statuses and messages."""

    def begin(self, status: Status) -> None:
        """Show the first status of a run, stack or sweep."""

    def update(self, status: Status) -> None:
        """Show a status, at most ten times per second."""

    def log(self, text: str) -> None:
        """Show the end of a run."""

    def print(self, text: str) -> None:
        """Show a message."""

    def close(self) -> None:
        """Remove what must not stay."""


class ProgressBar:
    """One line on a terminal with a bar, the rate and the time left. It disappears at the end."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        narrow = console.width < NARROW
        text = TextColumn(f"{{task.{'fields[narrow]' if narrow else 'description'}}}", markup=False)
        columns = [text] if narrow else [text, BarColumn(None), TextColumn("{task.fields[measured]}")]
        self.progress = RichProgress(*columns, console=console, transient=True, expand=not narrow)
        self.task = self.progress.add_task("importing torch", total=None, measured="", narrow="importing torch")
        self.progress.start()

    def update(self, status: Status) -> None:
        """Show the status."""
        self.progress.update(
            self.task,
            description=status.what,
            total=status.total,
            completed=status.done,
            measured="  ".join(status.measured),
            narrow=status.narrow,
        )

    begin = update

    def log(self, text: str) -> None:
        """Show nothing: the table at the end has these lines."""

    def print(self, text: str) -> None:
        """Print a message above the bar."""
        self.progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Remove the bar."""
        self.progress.stop()


class ProgressLines:
    """A line of text every ten seconds, and one at the end of every run, for a log file."""

    def __init__(self, print_message: Callable[[str], object]) -> None:
        self._print = print_message
        self.due = 0.0

    def begin(self, status: Status) -> None:  # noqa: ARG002 - a line comes later
        """Start the interval before the first line."""
        self.due = time.monotonic() + INTERVAL

    def update(self, status: Status) -> None:
        """Print the status if a line is due."""
        if (now := time.monotonic()) >= self.due:
            self.due = now + INTERVAL
            self.print(status.line)

    def log(self, text: str) -> None:
        """Print the line at the end of a run."""
        self._print(text)

    def print(self, text: str) -> None:
        """Print a message."""
        self._print(text)

    def close(self) -> None:
        """Do nothing."""


class TrainingProgress(Progress):
    """The progress of a training on one display."""

    def __init__(self, display: Display) -> None:
        self.display = display

    def on_prepare(self, text: str) -> None:
        """Show a step that comes before the first run or after the last one."""
        self.display.begin(Status(0, None, text, [], text, text))

    def on_message(self, text: str) -> None:
        """Show a message."""
        self.display.print(text)

    def close(self) -> None:
        """Remove the bar from the screen."""
        self.display.close()


class RunProgress(TrainingProgress):
    """The current runs of an experiment, the steps per second, and the time left for all runs."""

    def __init__(self, display: Display, runs: int) -> None:
        super().__init__(display)
        self.runs = runs
        self.ended = 0
        self.at_once = 1  # runs that train together
        self.what = ""
        self.steps: int | None = None  # per run, None if unknown
        self.done = self.before = 0  # steps of a run, and those before it was resumed
        self.start = time.monotonic()

    def on_start(
        self,
        title: str,
        runs: int,
        steps: int | None = None,
        *,
        done_steps: int = 0,
        done_runs: int = 0,  # noqa: ARG002 - only for sweeps
    ) -> None:
        """Show the start of a run or stack."""
        self.what, self.at_once = title, runs
        self.steps, self.done, self.before = steps, done_steps, done_steps
        self.start = time.monotonic()
        self.display.begin(self.status)

    def on_progress(self, steps: int, done_runs: float = 0.0) -> None:  # noqa: ARG002 - only for sweeps
        """Show the number of steps so far."""
        self.done = steps
        self.display.update(self.status)

    def on_run_count(self, runs: int) -> None:
        """Take over the number of runs."""
        self.runs = runs

    def on_end(self, result: Result) -> None:
        """Count the run, and show its status unless it was reused."""
        self.ended += 1
        if not result.cached:
            self.display.log(f"{self.ended}/{self.runs} {result.mode} seed {result.seed}: {result.status}")

    @property
    def status(self) -> Status:
        """The status of all runs. The time left assumes that the others take as long as this one."""
        new = self.done - self.before
        rate = self.at_once * new / max(time.monotonic() - self.start, 1e-3)
        speed = f"{rate:,.0f} {'run-' * (self.at_once > 1)}steps/s"
        done = (self.steps or 0) * self.ended + self.done * self.at_once
        total = None if self.steps is None else self.steps * self.runs
        left = _time_left((total - done) / rate) if total is not None and new > 0 else ""
        measured = [speed, left] if new > 0 else []
        first, last = self.ended + 1, self.ended + self.at_once
        number = f"{first}/{self.runs}" if first >= last else f"{first}-{last}/{self.runs}"
        of_steps = f" of {self.steps}" if self.steps else ""
        line = f"{number} {self.what}: step {self.done}{of_steps}, {speed}" + (f", {left}" if left else "")
        return Status(done, total, f"{number} {self.what}", measured, " ".join([number, *measured]), line)


class SweepProgress(TrainingProgress):
    """The finished runs of a sweep, the steps of all runs per second, and the time left."""

    def __init__(self, display: Display) -> None:
        super().__init__(display)
        self.total = self.steps = 0
        self.done = 0.0
        self.first: tuple[float, int, float] | None = None  # time, steps and runs at the first report

    def on_start(
        self,
        title: str,  # noqa: ARG002 - a sweep shows its number of runs
        runs: int,
        steps: int | None = None,  # noqa: ARG002 - differs between runs
        *,
        done_steps: int = 0,  # noqa: ARG002 - only for single runs
        done_runs: int = 0,
    ) -> None:
        """Show the start of the sweep."""
        self.total, self.steps, self.done, self.first = runs, 0, float(done_runs), None
        self.display.begin(self.status)

    def on_progress(self, steps: int, done_runs: float = 0.0) -> None:
        """Show the number of runs so far. The rate leaves out the start of the processes."""
        self.steps, self.done = steps, done_runs
        if steps and self.first is None:
            self.first = time.monotonic(), steps, done_runs
        self.display.update(self.status)

    @property
    def status(self) -> Status:
        """The status of the sweep. Rate and time left appear after one second."""
        count = f"{int(self.done):,}/{self.total:,}"
        start, steps, done = self.first or (math.inf, 0, 0.0)
        seconds = time.monotonic() - start
        measured = []
        if seconds >= 1 and steps != self.steps:
            measured.append(f"{(self.steps - steps) / seconds:,.0f} run-steps/s")
            if self.done > done:
                measured.append(_time_left((self.total - self.done) * seconds / (self.done - done)))
        what, narrow = f"{count} runs", " ".join([count, *measured]).replace("run-steps", "steps")
        return Status(self.done, self.total, what, measured, narrow, ", ".join([what, *measured]))


def _time_left(seconds: float) -> str:
    minutes, rest = divmod(max(round(seconds), 0), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} left" if minutes >= 60 else f"{minutes}:{rest:02} left"
