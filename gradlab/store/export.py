"""CSV export; floats are written so that they round-trip."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from gradlab.rows import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gradlab.rows import Evaluation, Row
    from gradlab.store.run_record import RunRecord
    from gradlab.store.sweeps import Results, SweepRecord


def run_columns(*, geometry: bool) -> list[str]:
    """Return the columns of runs, one line per step."""
    return ["experiment", "mode", "seed", *columns(geometry=geometry)]


def csv_of(
    runs: Iterable[tuple[RunRecord, Sequence[Row], Sequence[Evaluation]]],
    evaluated: Sequence[str] = (),
    *,
    geometry: bool = False,
) -> Iterator[str]:
    """Yield the lines of a CSV file with all rows and evaluations of the runs.

    Args:
        runs: the record, rows and evaluations of every run.
        evaluated: the names of the values of evaluations, which are the last columns.
        geometry: whether to write the columns of the rows' geometry.
    """
    yield _csv_line([*run_columns(geometry=geometry), *evaluated])
    for record, rows, evaluations in runs:
        for line in merged(rows, evaluations, evaluated, geometry=geometry):
            yield _csv_line([record.experiment, record.mode, record.seed, *map(_plain, line)])


def merged(
    rows: Sequence[Row], evaluations: Sequence[Evaluation], names: Sequence[str], *, geometry: bool = False
) -> Iterator[list[float | None]]:
    """Yield the cells of each row, then the values of the evaluation before its step, with None for missing ones.

    The last evaluation has no row after it, so its line has only the position and the values.
    """
    by_step = {each.step: each for each in evaluations}
    for row in rows:
        evaluation = by_step.pop(row.step, None)
        yield [*row.cells(geometry=geometry), *(evaluation.values.get(name) if evaluation else None for name in names)]
    lacking = [None] * (len(columns(geometry=geometry)) - 3)
    for each in by_step.values():
        yield [each.step, each.update, each.epoch, *lacking, *map(each.values.get, names)]


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
