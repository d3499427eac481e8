"""CSV export; floats are written so that they round-trip."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from gradlab.rows import Evaluation, Row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gradlab.store.run_record import RunRecord
    from gradlab.store.sweeps import Results, SweepRecord


RUN_COLUMNS = ("experiment", "mode", "seed")


def csv_of(
    runs: Iterable[tuple[RunRecord, Sequence[Row], Sequence[Evaluation]]], evaluated: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the lines of a CSV file with all rows and evaluations of the runs.

    Args:
        runs: the record, rows and evaluations of every run.
        evaluated: the names of the values of evaluations, which are the last columns.
    """
    yield _csv_line([*RUN_COLUMNS, *Row._fields, *evaluated])
    for record, rows, evaluations in runs:
        for line in merged(rows, evaluations, evaluated):
            yield _csv_line([record.experiment, record.mode, record.seed, *map(_plain, line)])


def merged(
    rows: Sequence[Row], evaluations: Sequence[Evaluation], names: Sequence[str]
) -> Iterator[list[int | float | None]]:
    """Yield the fields of each row, then the values of the evaluation before its step, with None for missing ones.

    The last evaluation has no row after it, so it has a line without loss and items.
    """
    by_step = {each.step: each for each in evaluations}
    for row in rows:
        evaluation = by_step.pop(row.step, None)
        yield [*row, *(evaluation.values.get(name) if evaluation else None for name in names)]
    for each in by_step.values():
        yield [each.step, each.update, each.epoch, None, None, *map(each.values.get, names)]


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
