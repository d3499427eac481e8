"""Rows for other tools: CSV, its floats written so that they round-trip."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradlab.store.folders import RunFolder


def csv_of(runs: Iterable[RunFolder]) -> Iterator[str]:
    """Yield the lines of a CSV file of all rows; floats are written so that they round-trip."""
    yield _csv_line(["experiment", "mode", "seed", *Row._fields])
    for run in runs:
        record = run.read()
        for row in run.rows():
            yield _csv_line([record.experiment, record.mode, record.seed, *row[:3], repr(row.loss), repr(row.items)])


def _csv_line(values: list[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()
