"""A sweep on a terminal: its axes, its runs and their verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from gradlab.terminal.fitted_table import coloured, literal_text, number_text
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradlab.store import SweepRecord
    from gradlab.sweeps import SweepResult


def sweep_lines(record: SweepRecord, ended: dict[str, int]) -> list[Text]:
    """Return the axes of a sweep, its number of runs, and the number of runs per verdict, as lines."""
    axes = " × ".join(_axis_text(axis) for axis in record.axes)
    modes = counted(len(record.modes), "mode") + " × " if record.modes else ""
    runs = f"{modes}{counted(len(record.seeds), 'seed')}: {counted(record.runs, 'run')}"
    endings = Text(", ").join(coloured(word, f"{word} {count:,}") for word, count in ended.items())
    lines = [literal_text(axes), Text(runs), endings]
    if missing := record.runs - sum(ended.values()):
        lines.append(Text(f"{missing:,} missing", "bold red"))
    if record.training_set_batches:
        used, of = record.training_set_batches
        lines.append(Text(f"training_set_loss of {used:,} of {of:,} batches"))
    if record.rate:
        lines.append(Text(f"{record.rate:,.0f} run-steps/s"))
    return lines


def range_lines(ranges: Mapping[str, Mapping[str, float]]) -> list[Text]:
    """Return the range of each loss and metric over the runs of a sweep as lines, the numbers aligned."""
    width = max(map(len, ranges), default=0)
    return [
        Text(f"{name:<{width}}  {each['lowest']:.3g} … {each['highest']:.3g}, median {each['median']:.3g}")
        for name, each in ranges.items()
    ]


def lost_message(outcome: SweepResult, again: str) -> list[str]:
    """Return a message about runs that could not be trained, if any.

    Args:
        outcome: the outcome of the sweep.
        again: what retries them, such as "Run the same command".
    """
    if not outcome.lost:
        return []
    return [f"{counted(outcome.lost, 'run')} not trained: {outcome.lost_reason}. {again} to retry."]


def error_messages(outcome: SweepResult) -> list[str]:
    """Return a message for every error, with its number of runs."""
    return [f"{counted(count, 'run')} failed:\n{error}" for error, count in outcome.errors.items()]


def sequential_messages(outcome: SweepResult) -> list[str]:
    """Return a message for every reason why runs were not stacked, with its number of runs."""
    return [
        f"{counted(count, 'run')} trained sequentially with the engine loop: {why}"
        for why, count in outcome.by_loop.items()
    ]


def _axis_text(axis: dict[str, Any]) -> str:
    """Return an axis as text: up to 4 values, or its ends and the number of values."""
    values = axis["values"]
    if len(values) <= 4:
        return f"{axis['key']} {', '.join(map(_value_text, values))}"
    log = ", log" if axis.get("log") else ""
    return f"{axis['key']} {_value_text(values[0])} … {_value_text(values[-1])} ({len(values)}{log})"


def _value_text(value: object) -> str:
    return number_text(value) if isinstance(value, float) else str(value)
