"""CSV export; floats are written so that they round-trip."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from gradlab.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gradlab.store.run_record import RunRecord
    from gradlab.store.sweeps import Results, SweepRecord


def csv_of(runs: Iterable[tuple[RunRecord, Sequence[Row]]]) -> Iterator[str]:
    """Yield the lines of a CSV file with all rows of the runs."""
    yield _csv_line(["experiment", "mode", "seed", *Row._fields])
    for record, rows in runs:
        for row in rows:
            yield _csv_line([record.experiment, record.mode, record.seed, *row[:3], repr(row.loss), repr(row.items)])


def csv_of_sweep(
    record: SweepRecord, results: Results, run_at: Callable[[int], tuple[Sequence[Any], str, int]]
) -> Iterator[str]:
    """Yield the lines of a CSV file of a sweep, one line per run, in the order of run numbers.

    Args:
        record: the sweep's record.
        results: the sweep's results.
        run_at: returns the axis values, mode and seed for a run number.
    """
    columns = results.columns
    yield _csv_line([*record.values, "mode", "seed", *columns])
    for number, (block, nth) in results.by_run().items():
        values, mode, seed = run_at(number)
        found = [block.values(column)[nth] for column in columns]
        yield _csv_line([*map(_plain, values), mode, seed, *map(_plain, found)])


def _plain(value: object) -> object:
    """Return the value for a CSV field: floats by repr, lists and booleans as JSON, None as an empty field."""
    if isinstance(value, bool | list):
        return json.dumps(value)
    return repr(value) if isinstance(value, float) else value


def _csv_line(values: list[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()
