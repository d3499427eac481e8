"""Lists of runs, of sweeps, and of names with their meaning."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gradlab.terminal.fitted_table import coloured, fitted_table, literal_text, needed_width

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradlab.store import RunRecord, SweepRecord


def run_list(records: Iterable[RunRecord], width: int) -> Group:
    """Return a table of runs. If it exceeds `width`, return one table per experiment with fewer columns.

    Runs that differ in mode, seed or lr have different lines at any width.
    """
    lines = [
        {
            "experiment": literal_text(record.experiment),
            "mode": literal_text(record.mode),
            "seed": Text(str(record.seed)),
            "lr": Text(_lr_text(record)),
            "status": coloured(record.status),
            "rows": Text("" if record.rows is None else str(record.rows)),
            "started": _started_text(record),
        }
        for record in records
    ]
    identifying, numbers = ("experiment", "mode", "seed", "lr"), ("seed", "rows")
    shown = [*identifying, "status", "rows", "started"]
    if needed_width([*identifying, "status"], lines) <= width:
        return Group(fitted_table(shown, ["started", "rows"], lines, width, numbers))
    tables = []
    for name, of_one in groupby(lines, key=lambda line: line["experiment"].plain):
        optional = ["started", "rows", "lr", "seed"]
        table = fitted_table(shown[1:], optional, list(of_one), width, numbers, identifying)
        table.title, table.title_justify = literal_text(f"runs of {name}", "table.title"), "left"
        tables.append(table)
    return Group(*tables)


def sweep_list(sweeps: Iterable[tuple[SweepRecord, int]], width: int) -> Table:
    """Return a table of sweeps and their numbers of finished runs. A narrow one has fewer columns."""
    shown = ["sweep of", "axes", "status", "runs", "started"]
    lines = [
        {
            "sweep of": literal_text(record.experiment),
            "axes": literal_text(" × ".join(f"{axis['key']} {len(axis['values'])}" for axis in record.axes)),
            "status": coloured(record.status),
            "runs": Text(f"{done:,}/{record.runs:,}"),
            "started": _started_text(record),
        }
        for record, done in sweeps
    ]
    return fitted_table(shown, ["started", "axes"], lines, width, numbers=("runs",), identifying=("sweep of", "axes"))


def word_list(words: dict[str, str]) -> Table:
    """Return a table of names and their meanings."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, meaning in words.items():
        table.add_row(Text(name), Text(meaning))
    return table


def _lr_text(record: RunRecord) -> str:
    optimizer = record.settings.get("optimizer")
    lr = optimizer.get("lr") if isinstance(optimizer, dict) else None
    return f"{lr:g}" if isinstance(lr, float) else ""


def _started_text(record: RunRecord | SweepRecord) -> Text:
    return literal_text(record.started.replace("T", " ")[:16])
