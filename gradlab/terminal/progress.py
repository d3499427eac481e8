"""How far the runs are, told while they train: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from gradlab.analysis.results import Result
    from gradlab.runs import RunPlan

NARROW = 60  # columns below which there is no room for a bar
EVERY = 10.0  # seconds between two plain lines


class Pace:
    """How many steps of how many runs are done, how fast, and how long the rest will take at this rate."""

    def __init__(self, runs: int) -> None:
        self.runs = runs
        self.ended = 0
        self.at_once = 1  # runs that are under way
        self.what = ""
        self.steps: int | None = None  # of a run, where that is known
        self.done = 0
        self.before = 0  # steps that a run which goes on had done already
        self.start = time.monotonic()

    def begins(self, plan: RunPlan, steps: int | None, done: int, runs: int) -> None:
        """Note the run, or the runs, that begin."""
        self.what = plan.title if runs == 1 else f"{runs} runs at once"
        self.steps, self.done, self.before, self.at_once = steps, done, done, runs
        self.start = time.monotonic()

    @property
    def nth(self) -> str:
        """Which of the runs are under way: `3/10`, and `3-5/10` where these are trained at once."""
        first, last = self.ended + 1, self.ended + self.at_once
        return f"{first}/{self.runs}" if first >= last else f"{first}-{last}/{self.runs}"

    @property
    def rate(self) -> float:
        """Steps a second, of all runs that are under way together."""
        return self.at_once * (self.done - self.before) / max(time.monotonic() - self.start, 1e-3)

    @property
    def speed(self) -> str:
        """The rate in words."""
        return f"{self.rate:,.0f} {'run-' * (self.at_once > 1)}steps/s"

    @property
    def all_done(self) -> int:
        """Steps done of all runs."""
        return (self.steps or 0) * self.ended + self.done * self.at_once

    @property
    def left(self) -> str:
        """The time left for all runs, taking each to be as long as this one."""
        if self.steps is None or self.done == self.before:
            return ""
        return _left((self.runs * self.steps - self.all_done) / self.rate)


class Bar:
    """On a terminal: run, bar, rate and time left, in one line that goes when the runs are done."""

    def __init__(self, console: Console, runs: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.pace = Pace(runs)
        self.narrow = console.width < NARROW
        columns = [TextColumn("{task.description}", markup=False)] if self.narrow else [
            TextColumn("{task.description}", markup=False), BarColumn(None), TextColumn("{task.fields[pace]}")
        ]  # fmt: skip
        self.progress = Progress(*columns, console=console, transient=True, expand=not self.narrow)
        self.bar = self.progress.add_task("importing torch", total=None, pace="")
        self.progress.start()

    def begins(self, plan: RunPlan, steps: int | None, done: int, runs: int = 1) -> None:
        """Show the run, or the runs, that begin."""
        self.pace.begins(plan, steps, done, runs)
        self._show()

    def at(self, steps: int) -> None:
        """Show how far it is."""
        self.pace.done = steps
        self._show()

    def ends(self, result: Result) -> None:  # noqa: ARG002 - the table says the rest
        """Count the run."""
        self.pace.ended += 1

    def says(self, text: str) -> None:
        """Say it above the bar."""
        self.progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Take the bar away."""
        self.progress.stop()

    def _show(self) -> None:
        pace = self.pace
        measured = [pace.speed, pace.left] if pace.done > pace.before else []
        if self.narrow:
            self.progress.update(self.bar, description=" ".join([pace.nth, *measured]))
            return
        total = None if pace.steps is None else pace.steps * pace.runs
        description = f"{pace.nth} {pace.what}"
        self.progress.update(
            self.bar, description=description, total=total, completed=pace.all_done, pace="  ".join(measured)
        )


class Lines:
    """In a log file: a plain line now and then, and one when a run ends."""

    def __init__(self, say: Callable[[str], object], runs: int) -> None:
        self.say = say
        self.pace = Pace(runs)
        self.due = 0.0

    def begins(self, plan: RunPlan, steps: int | None, done: int, runs: int = 1) -> None:
        """Note the run, or the runs, that begin."""
        self.pace.begins(plan, steps, done, runs)
        self.due = time.monotonic() + EVERY

    def at(self, steps: int) -> None:
        """Say how far it is, when that was not said for a while."""
        if (now := time.monotonic()) < self.due:
            return
        self.due = now + EVERY
        pace = self.pace
        pace.done = steps
        of = f" of {pace.steps}" if pace.steps else ""
        left = f", {pace.left}" if pace.left else ""
        self.say(f"{pace.nth} {pace.what}: step {steps}{of}, {pace.speed}{left}")

    def ends(self, result: Result) -> None:
        """Say what came of it, unless it was done before."""
        self.pace.ended += 1
        if not result.cached:
            self.say(f"{self.pace.ended}/{self.pace.runs} {result.mode} seed {result.seed}: {result.status}")

    def says(self, text: str) -> None:
        """Say it."""
        self.say(text)

    def close(self) -> None:
        """Nothing is left on the screen."""


class SweepPace:
    """How many runs of a sweep are done, how many steps of all runs a second, and how long the rest will take."""

    def __init__(self) -> None:
        self.total = self.steps = 0
        self.done = 0.0
        self.first: tuple[float, int, float] | None = None  # when steps were reported first, how many, and runs done

    def begins(self, total: int, done: int) -> None:
        """Note that it begins."""
        self.total, self.steps, self.done, self.first = total, 0, float(done), None

    def at(self, steps: int, done: float) -> None:
        """Note how far it is; what came before the first steps, such as starting processes, counts for no rate."""
        self.steps, self.done = steps, done
        if steps and self.first is None:
            self.first = time.monotonic(), steps, done

    @property
    def measured(self) -> list[str]:
        """Rate and time left; nothing until a second has been measured."""
        start, steps, done = self.first or (math.inf, 0, 0.0)
        seconds = time.monotonic() - start
        if seconds < 1 or steps == self.steps:
            return []
        rate = f"{(self.steps - steps) / seconds:,.0f} run-steps/s"
        new = self.done - done
        return [rate, _left((self.total - self.done) * seconds / new)] if new > 0 else [rate]

    @property
    def count(self) -> str:
        """Runs done of all."""
        return f"{int(self.done):,}/{self.total:,}"


class SweepBar:
    """On a terminal: one bar for all runs of a sweep, with rate and time left, that goes when they are done."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.pace = SweepPace()
        self.narrow = console.width < NARROW
        text = TextColumn("{task.description}", markup=False)
        columns = [text] if self.narrow else [text, BarColumn(None), TextColumn("{task.fields[pace]}")]
        self.progress = Progress(*columns, console=console, transient=True, expand=not self.narrow)
        self.bar = self.progress.add_task("importing torch", total=None, pace="")
        self.progress.start()

    def begins(self, total: int, done: int) -> None:
        """Show the sweep that begins."""
        self.pace.begins(total, done)
        self._show()

    def at(self, steps: int, done: float) -> None:
        """Show how far it is."""
        self.pace.at(steps, done)
        self._show()

    def says(self, text: str) -> None:
        """Say it above the bar."""
        self.progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Take the bar away."""
        self.progress.stop()

    def _show(self) -> None:
        pace = self.pace
        if self.narrow:
            description = " ".join([pace.count, *pace.measured]).replace("run-steps", "steps")
            self.progress.update(self.bar, description=description)
            return
        measured = "  ".join(pace.measured)
        self.progress.update(
            self.bar, description=f"{pace.count} runs", total=pace.total, completed=pace.done, pace=measured
        )


class SweepLines:
    """In a log file: how far a sweep is, in a plain line now and then."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self.say = say
        self.pace = SweepPace()
        self.due = 0.0

    def begins(self, total: int, done: int) -> None:
        """Note the sweep that begins."""
        self.pace.begins(total, done)
        self.due = time.monotonic() + EVERY

    def at(self, steps: int, done: float) -> None:
        """Say how far it is, when that was not said for a while."""
        self.pace.at(steps, done)
        if (now := time.monotonic()) < self.due:
            return
        self.due = now + EVERY
        self.say(", ".join([f"{self.pace.count} runs", *self.pace.measured]))

    def says(self, text: str) -> None:
        """Say it."""
        self.say(text)

    def close(self) -> None:
        """Nothing is left on the screen."""


def _left(seconds: float) -> str:
    minutes, rest = divmod(max(round(seconds), 0), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} left" if minutes >= 60 else f"{minutes}:{rest:02} left"
