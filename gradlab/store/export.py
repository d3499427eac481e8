"""Rows for other tools: CSV, its floats written so that they round-trip."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from gradlab.store.records import RunRecord


def csv_of(runs: Iterable[tuple[RunRecord, Sequence[Row]]]) -> Iterator[str]:
    """Yield the lines of a CSV file of all rows; floats are written so that they round-trip."""
    yield _csv_line(["experiment", "mode", "seed", *Row._fields])
    for record, rows in runs:
        for row in rows:
            yield _csv_line([record.experiment, record.mode, record.seed, *row[:3], repr(row.loss), repr(row.items)])


def _csv_line(values: list[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()
