"""What the terminal shows: tables, sparklines, epoch lines, progress. It makes them; the command line prints them."""

from __future__ import annotations

import math
import time
from collections import Counter
from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from gradlab import curves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console

    from gradlab.results import Checked, Result
    from gradlab.rows import Row
    from gradlab.runs import Plan

COLOURS = {"falls": "green", "flat": "cyan", "oscillates": "yellow", "rises": "red", "diverges": "bold red"}
STATUS_COLOURS = {"done": "green", "failed": "bold red"}
WIDE, MIDDLE = 76, 54  # columns from which on the whole table fits, and most of it
PLAIN_EVERY = 10.0  # seconds between two lines of progress where there is no terminal


def table_of(results: Sequence[Result], width: int) -> Table:
    """Return the table of a run: a line a mode; of several seeds the medians, and how many got which verdict.

    Where `width` columns are too few for all of it, the less telling columns go first.
    """
    seeds = len({result.seed for result in results})
    by_mode = [list(group) for _, group in groupby(results, key=lambda result: result.mode)]
    if all(len(curves.epoch_means(result.rows)) == len(result.rows) for result in results):
        optional = ["best", "first", "curve", "last"]
    else:
        optional = ["last epoch", "best", "first", "curve", "last"]
    shown = ["mode", "first", "last", "best", "last epoch", "curve", "verdict"]
    cells = [_cells(runs, spark=16) for runs in by_mode]
    shown = [name for name in shown if name in ("mode", "verdict", *optional)]
    while optional and _width_of(shown, cells) > width:
        shown.remove(optional.pop(0))
    table = Table(title=f"loss, median of {seeds} seeds" if seeds > 1 else None, title_justify="left", box=None)
    for name in shown:
        numbers = name not in ("mode", "curve", "verdict")
        table.add_column(name, justify="right" if numbers else "left", no_wrap=numbers, overflow="fold")
    for line in cells:
        table.add_row(*(line[name] for name in shown))
    return table


def run_list(entries: Iterable[tuple[str, str, str, str, str, str]], width: int) -> Table:
    """Return a table of runs: experiment, mode, seed, status, rows and when it began."""
    names = ("experiment", "mode", "seed", "status", "rows", "started")
    shown = names if width >= WIDE else names[:4]
    table = Table(box=None)
    for name in shown:
        table.add_column(name, justify="right" if name in ("seed", "rows") else "left", overflow="fold")
    for entry in entries:
        cells = [Text(cell, STATUS_COLOURS.get(cell, "")) if name == "status" else cell
                 for name, cell in zip(names, entry, strict=True)]  # fmt: skip
        table.add_row(*cells[: len(shown)])
    return table


def word_list(words: dict[str, str]) -> Table:
    """Return a table of names and what they mean."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, meaning in words.items():
        table.add_row(Text(name), Text(meaning))
    return table


def expectation_lines(checked: Sequence[Checked]) -> list[Text]:
    """Return a line for each expectation that failed, or one that says that all hold."""
    failed = [each for each in checked if not each.ok]
    lines = [
        Text(f"expected {each.mode} seed {each.seed}: {each.key} = {each.expected}, got {each.got}", "bold red")
        for each in failed
    ]
    if checked and not failed:
        lines = [Text(f"{len(checked)} expectations hold", "green")]
    return lines


def epoch_lines(results: Sequence[Result], most: int = 10) -> list[str]:
    """Return the mean loss of each epoch in words, mode after mode; nothing where that would be too many lines."""
    if len({result.seed for result in results}) > 1:
        return []
    lines = []
    for result in results:
        means = curves.epoch_means(result.rows)
        if not 1 < len(means) <= most:
            return []
        lines += [f"{result.mode}:", *(f"model training loss is {mean:.1f}" for mean in means), ""]
    return lines


def sparkline(values: Sequence[float], width: int) -> str:
    """Return `values` as a line of blocks, low to high within itself; × where they are not finite."""
    cells = [values[nth * len(values) // width] for nth in range(width)] if len(values) > width else list(values)
    finite = [value for value in cells if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
    blocks = "▁▂▃▄▅▆▇█"

    def block(value: float) -> str:
        if not math.isfinite(value):
            return "×"
        return blocks[int((value / 2 - low / 2) / (high / 2 - low / 2) * 7.999)] if high > low else blocks[0]

    return "".join(map(block, cells))


def loss_text(loss: float | None) -> str:
    """Return a loss in four significant digits."""
    return "" if loss is None else f"{loss:.4g}"


class Bar:
    """Tells a person how far the runs are: a bar with rate and time left on a terminal."""

    def __init__(self, console: Console, runs: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        wide = console.width >= MIDDLE
        rate = [TextColumn("{task.fields[rate]}"), TimeRemainingColumn(compact=True)]
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(None if wide else 8), *rate, console=console, transient=True
        )
        self.bar = self.progress.add_task("", total=None, rate="")
        self.runs, self.nth = runs, 0
        self.pace = Pace()

    def begins(self, plan: Plan, steps: int | None) -> None:
        """Show the run that begins."""
        self.pace = Pace()
        what = f"{self.nth + 1}/{self.runs} {plan.mode.name}" + (f" seed {plan.seed}" if self.runs > 3 else "")
        self.progress.reset(self.bar, description=what, total=steps, rate="")
        self.progress.start()

    def at(self, steps: int) -> None:
        """Show how far it is."""
        self.progress.update(self.bar, completed=steps, rate=self.pace.words(steps))

    def ends(self, result: Result) -> None:  # noqa: ARG002 - the table says the rest
        """Count the run."""
        self.nth += 1
        if self.nth == self.runs:
            self.close()

    def close(self) -> None:
        """Take the bar away."""
        self.progress.stop()


class Lines:
    """Tells a log file how far the runs are: a plain line now and then."""

    def __init__(self, say: Callable[[str], object], runs: int) -> None:
        self.say, self.runs, self.nth = say, runs, 0
        self.what, self.steps = "", None  # type: str, int | None
        self.pace = Pace()
        self.due = 0.0

    def begins(self, plan: Plan, steps: int | None) -> None:
        """Note the run that begins."""
        self.what, self.steps = f"{plan.mode.name} seed {plan.seed}", steps
        self.pace = Pace()
        self.due = time.monotonic() + PLAIN_EVERY

    def at(self, steps: int) -> None:
        """Say how far it is, when that was not said for a while."""
        if (now := time.monotonic()) < self.due:
            return
        self.due = now + PLAIN_EVERY
        of = f" of {self.steps}, {self.pace.left(steps, self.steps):.0f} s left" if self.steps else ""
        self.say(f"{self.what}: step {steps}{of}, {self.pace.words(steps)}")

    def ends(self, result: Result) -> None:
        """Say what came of it."""
        self.nth += 1
        how = "done before" if result.cached else result.status
        self.say(f"{self.nth}/{self.runs} {result.mode} seed {result.seed}: {how}")

    def close(self) -> None:
        """Nothing to take away."""


class Pace:
    """Steps a second since the start of a run."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def words(self, steps: int) -> str:
        """Return the rate in words."""
        return f"{steps / max(time.monotonic() - self.start, 1e-3):,.0f} steps/s"

    def left(self, steps: int, total: int) -> float:
        """Return the seconds that the rest will take at this rate."""
        return (time.monotonic() - self.start) / max(steps, 1) * (total - steps)


def _cells(runs: Sequence[Result], spark: int) -> dict[str, Text]:
    """Return the cells of one mode."""
    losses = {
        "first": _median(run.first_loss for run in runs),
        "last": _median(run.last_loss for run in runs),
        "best": _median(run.best_loss for run in runs),
        "last epoch": _median(_last_epoch(run.rows) for run in runs),
    }
    return {
        "mode": Text(runs[0].mode),
        **{name: Text(loss_text(loss)) for name, loss in losses.items()},
        "curve": Text(sparkline(_median_levels([run.rows for run in runs]), spark)),
        "verdict": _verdicts(runs),
    }


def _width_of(names: Sequence[str], lines: Sequence[dict[str, Text]]) -> int:
    """Return how wide a table of these columns is, with the blanks that rich puts around a cell."""
    return sum(2 + max(len(name), *(line[name].cell_len for line in lines)) for name in names)


def _verdicts(runs: Sequence[Result]) -> Text:
    counted = Counter(run.verdict if run.status == "done" and run.verdict else run.status for run in runs)
    text = Text()
    for nth, (word, times) in enumerate(counted.most_common()):
        text.append(", " if nth else "")
        text.append(word if len(counted) == 1 else f"{word} {times}", COLOURS.get(word, STATUS_COLOURS.get(word, "")))
    return text


def _last_epoch(rows: Sequence[Row]) -> float | None:
    return curves.epoch_means(rows)[-1] if rows else None


def _median(values: Iterable[float | None]) -> float | None:
    there = [math.inf if math.isnan(value) else value for value in values if value is not None]
    return median(there) if there else None


def _median_levels(runs: Sequence[Sequence[Row]]) -> list[float]:
    each = [curves.levels(rows) for rows in runs if rows]
    shortest = min(map(len, each), default=0)
    return [_median(levels[nth] for levels in each) or 0.0 for nth in range(shortest)]
