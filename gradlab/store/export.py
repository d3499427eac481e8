"""CSV export; floats are written so that they round-trip."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from gradlab.rows import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gradlab.rows import Row
    from gradlab.store.run_record import RunRecord
    from gradlab.store.sweeps import Results, SweepRecord

SWEEP_COLUMNS = ("status", "verdict", "steps", "first_loss", "last_loss", "best_loss")  # one line per run


def run_columns(*, geometry: bool) -> list[str]:
    """Return the columns of runs, one line per step."""
    return ["experiment", "mode", "seed", *columns(geometry=geometry)]


def csv_of(runs: Iterable[tuple[RunRecord, Sequence[Row]]], *, geometry: bool = False) -> Iterator[str]:
    """Yield the lines of a CSV file with all rows of the runs, with the columns of their geometry or without."""
    yield _csv_line([*run_columns(geometry=geometry)])
    for record, rows in runs:
        for row in rows:
            cells = map(_plain, row.cells(geometry=geometry))
            yield _csv_line([record.experiment, record.mode, record.seed, *cells])


def csv_of_sweep(
    record: SweepRecord, results: Results, run_at: Callable[[int], tuple[Sequence[Any], str, int]]
) -> Iterator[str]:
    """Yield the lines of a CSV file of a sweep, one line per run, in the order of run numbers.

    Args:
        record: the sweep's record.
        results: the sweep's results.
        run_at: returns the axis values, mode and seed for a run number.
    """
    yield _csv_line([*record.values, "mode", "seed", *SWEEP_COLUMNS])
    for number, (block, nth) in results.by_run().items():
        values, mode, seed = run_at(number)
        found = [getattr(block, column)[nth] for column in SWEEP_COLUMNS]
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
