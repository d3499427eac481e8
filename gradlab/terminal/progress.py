"""The progress of runs and sweeps while they train: a bar on a terminal, elsewhere a line of text now and then."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, NamedTuple

from gradlab.runs.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from gradlab.analysis.results import Result

NARROW = 60  # columns below which there is no room for a bar
INTERVAL = 10.0  # seconds between two lines


class Status(NamedTuple):
    """How far a training is."""

    done: float
    total: float | None  # where it is known
    what: str  # is trained, before the bar
    measured: list[str]  # rate and time left, behind the bar
    narrow: str  # all of it, where there is no room for a bar
    line: str  # all of it, in a log file


class ProgressBar:
    """On a terminal: one line with a bar, the rate and the time left, which disappears at the end."""

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
        """Show how far it is."""
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
        """Show nothing: the table shows at the end what a log file holds line by line."""

    def print(self, text: str) -> None:
        """Print a message above the bar."""
        self.progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Remove the bar."""
        self.progress.stop()


class ProgressLines:
    """In a log file: a line of text every ten seconds, and one when a run ends."""

    def __init__(self, print_message: Callable[[str], object]) -> None:
        self.print = self.log = print_message
        self.due = 0.0

    def begin(self, _status: Status) -> None:
        """Wait until the first line is due."""
        self.due = time.monotonic() + INTERVAL

    def update(self, status: Status) -> None:
        """Print how far it is, if a line is due."""
        if (now := time.monotonic()) >= self.due:
            self.due = now + INTERVAL
            self.print(status.line)

    def close(self) -> None:
        """Do nothing: no line has to be removed."""


class TrainingProgress(Progress):
    """What a command shows of a training."""

    def __init__(self, display: ProgressBar | ProgressLines) -> None:
        self.display = display

    def on_message(self, text: str) -> None:
        """Show a message."""
        self.display.print(text)

    def close(self) -> None:
        """Remove what is left on the screen."""
        self.display.close()


class RunProgress(TrainingProgress):
    """Which of an experiment's runs are under way, the steps per second, and the time left for all runs."""

    def __init__(self, display: ProgressBar | ProgressLines, runs: int) -> None:
        super().__init__(display)
        self.runs = runs
        self.ended = 0
        self.at_once = 1  # runs that are under way
        self.what = ""
        self.steps: int | None = None  # of a run, where that is known
        self.done = self.before = 0  # steps of a run, and those that a resumed run had done already
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
        """Show the run or the stack that starts."""
        self.what, self.at_once = title, runs
        self.steps, self.done, self.before = steps, done_steps, done_steps
        self.start = time.monotonic()
        self.display.begin(self.status)

    def on_progress(self, steps: int, done_runs: float = 0.0) -> None:  # noqa: ARG002 - only for sweeps
        """Show how far it is."""
        self.done = steps
        self.display.update(self.status)

    def on_end(self, result: Result) -> None:
        """Count the run, and show how it ended unless it was done before."""
        self.ended += 1
        if not result.cached:
            self.display.log(f"{self.ended}/{self.runs} {result.mode} seed {result.seed}: {result.status}")

    @property
    def status(self) -> Status:
        """How far all runs are; the time left assumes that the others take as long as this one."""
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
    """How many runs of a sweep are done, the steps of all runs per second, and the time left."""

    def __init__(self, display: ProgressBar | ProgressLines) -> None:
        super().__init__(display)
        self.total = self.steps = 0
        self.done = 0.0
        self.first: tuple[float, int, float] | None = None  # when steps were reported first, how many, and runs done

    def on_start(
        self,
        title: str,  # noqa: ARG002 - a sweep is shown by its number of runs
        runs: int,
        steps: int | None = None,  # noqa: ARG002 - differs between runs
        *,
        done_steps: int = 0,  # noqa: ARG002 - only for single runs
        done_runs: int = 0,
    ) -> None:
        """Show the sweep that starts."""
        self.total, self.steps, self.done, self.first = runs, 0, float(done_runs), None
        self.display.begin(self.status)

    def on_progress(self, steps: int, done_runs: float = 0.0) -> None:
        """Show how far it is; the time before the first steps, when processes start, does not count for the rate."""
        self.steps, self.done = steps, done_runs
        if steps and self.first is None:
            self.first = time.monotonic(), steps, done_runs
        self.display.update(self.status)

    @property
    def status(self) -> Status:
        """How far the sweep is; without rate and time left until a second has been measured."""
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
