"""Sweep folders: a record, and a results file with one line per cell, in columns, with its SHA-256."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

from pydantic import Field, StrictBool, model_validator

from gradlab.errors import shortened
from gradlab.rows import lower_is_better
from gradlab.store.files import strict_json, unwritable
from gradlab.store.line_log import LineLog
from gradlab.store.record_files import RecordedFolder
from gradlab.store.row_log import loss_in, strict_decoder
from gradlab.store.run_record import Count, Seconds, Seed, Shown  # noqa: TC001 - pydantic evaluates them

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SWEEP = "sweep.json"
FORMAT = 1
SYNC_EVERY = 1.0  # seconds between syncs of the results to the disk
COLUMNS = ("status", "verdict", "steps", "first_loss", "last_loss", "best_loss")  # of every run, as exported
_PER_RUN = ("run", *COLUMNS, "error")
_LARGEST_NUMBER = 10**7
_HEAD = re.compile(rb'\{"sha256":"([0-9a-f]{64})",')


class Block(NamedTuple):
    """The results of the runs of a cell, in columns with one value per run.

    Attributes:
        engine: the engine that trained the cell: the plain loop, if the sweep's engine could not.
        run: the run numbers.
        status: "done" or "failed".
        verdict: the verdict on the curve; None if the run failed.
        steps: the number of backward passes.
        first_loss: the loss of the first step; None without steps.
        last_loss: the loss of the last step.
        best_loss: the lowest finite loss.
        error: the error of a failed run, else "".
        why: why another engine than the sweep's trained the cell, else "".
        measured: more columns by name: training_set_loss, and last_NAME and best_NAME of every evaluated NAME. A value
            is None if the run failed or it is unknown. Results of older versions have none.
        training_set_batches: if training_set_loss is a mean over fewer batches than `gradlab run` uses, both numbers.
    """

    engine: str
    run: list[int]
    status: list[str]
    verdict: list[str | None]
    steps: list[int]
    first_loss: list[float | None]
    last_loss: list[float | None]
    best_loss: list[float | None]
    error: list[str]
    why: str = ""
    measured: dict[str, list[float | None]] = {}  # noqa: RUF012 - never changed
    training_set_batches: list[int] = []  # noqa: RUF012 - the same

    def values(self, column: str) -> list[Any]:
        """Return a column or a measured one; None for every run if the block does not have it."""
        if column in self._fields:
            return list(getattr(self, column))
        return self.measured.get(column) or [None] * len(self.run)


class Results(NamedTuple):
    """The content of a results file.

    Attributes:
        blocks: the blocks of all valid lines, in the order of the file.
        damaged: one message per damaged line: `…/results.jsonl:17: damaged line: …`.
    """

    blocks: list[Block]
    damaged: list[str]

    def by_run(self) -> dict[int, tuple[Block, int]]:
        """Return the block of each run and its position there, by run number, in ascending order."""
        places = {run: (block, nth) for block in self.blocks for nth, run in enumerate(block.run)}
        return dict(sorted(places.items()))

    def ended(self) -> dict[str, int]:
        """Return the number of runs per verdict, and of failed ones, most frequent first."""
        there = self.by_run().values()
        return dict(Counter(block.verdict[nth] or block.status[nth] for block, nth in there).most_common())

    @property
    def training_set_batches(self) -> list[int]:
        """The numbers of the block whose training_set_loss uses the lowest share of the batches; [] if all use all."""
        found = [block.training_set_batches for block in self.blocks if block.training_set_batches]
        return min(found, key=lambda each: each[0] / each[1], default=[])

    @property
    def measured(self) -> list[str]:
        """The names of the measured columns of all blocks, in their order."""
        return list(dict.fromkeys(name for block in self.blocks for name in block.measured))

    @property
    def columns(self) -> list[str]:
        """The exported columns."""
        return [*COLUMNS, *self.measured]

    def ranges(self) -> dict[str, dict[str, float]]:
        """Return the lowest, median and highest value of the losses and measured columns over the finished runs.

        NaN counts as the worst value. The median is the lower one of two.
        """
        found: dict[str, list[float]] = {}
        for block in self.blocks:
            for name in ("last_loss", "best_loss", *block.measured):
                values = zip(block.status, block.values(name), strict=True)
                finished = [each for status, each in values if status == "done" and each is not None]
                found.setdefault(name, []).extend(finished)
        return {
            name: {"lowest": ordered[0], "median": ordered[(len(ordered) - 1) // 2], "highest": ordered[-1]}
            for name, values in found.items()
            if (ordered := _worst_nan(values, last=lower_is_better(name)))
        }

    def column(self, name: str, runs: int) -> list[Any]:
        """Return a column for all runs, by run number; None for a missing run or value."""
        values: list[Any] = [None] * runs
        for block in self.blocks:
            for run, value in zip(block.run, block.values(name), strict=True):
                if run < runs:
                    values[run] = value
        return values


def _worst_nan(values: Iterable[float], *, last: bool) -> list[float]:
    """Return the values in ascending order, with NaN at the end where the worst values are."""
    return sorted(values, key=lambda each: (math.isnan(each) == last, 0.0 if math.isnan(each) else each))


@dataclass(frozen=True)
class SweepRecord:
    """The record of a sweep: the content of sweep.json."""

    experiment: Shown
    identity: str
    settings: dict[str, Any]  # everything else that decides the runs, in canonical form
    axes: list[dict[str, Any]]  # {"key", "values", "log"} each, in order
    modes: list[str]  # empty if keep or every varies
    seeds: list[Seed]
    chunk: Annotated[Count, Field(ge=1)]  # runs per cell, at most: with the grid, it decides which runs train together
    engine: Shown
    runs: Count  # of the whole grid
    status: Shown  # running, done, interrupted
    title: str = ""
    compiled: StrictBool = False  # whether the step is compiled: the last digits of results depend on it
    threads: Count = 1
    versions: dict[str, Any] = field(default_factory=dict)
    started: Shown = ""  # UTC, ISO 8601
    seconds: Seconds = 0.0  # of training, in all commands that were not killed
    run_steps: Count = 0  # backward passes in these seconds, summed over the runs
    done: Count = 0  # trained runs, when the status was written
    failed: Count = 0  # of the trained runs, those whose task raised
    # Of the cell where training_set_loss uses the lowest share of the batches: how many, and of how many; [] if all
    training_set_batches: list[Count] = field(default_factory=list)
    sharpness: dict[str, Any] | None = None  # λ of each seed, once measured; {} if no edge is known
    writer: dict[str, Any] = field(default_factory=dict)  # the process, {"pid", "host"}, while running
    format: int = FORMAT

    @property
    def values(self) -> dict[str, list[Any]]:
        """The values of each axis, by its key."""
        return {axis["key"]: axis["values"] for axis in self.axes}

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_grid(self)
        return self

    @property
    def rate(self) -> float | None:
        """Backward passes per second, summed over the runs; None before the first measurement."""
        return self.run_steps / self.seconds if self.seconds > 0 else None


class SweepFolder(RecordedFolder[SweepRecord]):
    """The folder of one sweep, and the names of its files."""

    record_name, log_name = SWEEP, "results.jsonl"
    kind, what = SweepRecord, "a sweep's record"

    @property
    def results_file(self) -> Path:
        """results.jsonl."""
        return self.log_file

    @property
    def picture_file(self) -> Path:
        """phase.png, the default picture of `gradlab plot`."""
        return self.path / "phase.png"

    @property
    def shared_picture_file(self) -> Path:
        """phases.png, the default picture of this sweep next to others."""
        return self.path / "phases.png"

    def results(self) -> Results:
        """Return the results so far; a partial last line is skipped.

        Raises:
            StoreError: the file cannot be read.
        """
        return _results_in(self.logged(), self.results_file)

    def log(self, *, fresh: bool = False) -> BlockLog:
        """Open the log to append results: cut off a partial last line, or all lines if `fresh`.

        Raises:
            StoreError: the file cannot be written, or another process writes it. The file stays unchanged.
        """
        try:
            return BlockLog(self.results_file, fresh=fresh)
        except BlockingIOError:
            raise self.being_written() from None

    def drop_if_empty(self) -> None:
        """Remove the folder if it has no results, and then the experiment's folder if it is empty."""
        with suppress(OSError):
            if not self.record_file.exists() and not self.results_file.stat().st_size:
                self.results_file.unlink()
        for path in (self.path, self.path.parent):
            with suppress(OSError):
                path.rmdir()


class BlockLog(LineLog):
    """Appends blocks to the results file, one complete line each; one process at a time."""

    def __init__(self, file: Path, *, fresh: bool = False) -> None:
        """Lock the file for this process; cut off a partial last line, or all lines if `fresh`.

        Raises:
            StoreError: the file cannot be written. It stays unchanged.
            BlockingIOError: another process writes the file.
        """
        super().__init__(file, None if fresh else lambda content: content[: content.rfind(b"\n") + 1])
        self._sync_at = time.monotonic() + SYNC_EVERY

    def append(self, block: Block) -> None:
        """Write a block as a whole, and sync the file about every second.

        Raises:
            StoreError: the block cannot be written.
        """
        try:
            self._write(block_line(block))
        except OSError as error:
            raise unwritable(self.file, error) from None
        if time.monotonic() >= self._sync_at:
            self.sync()
            self._sync_at = time.monotonic() + SYNC_EVERY


def block_line(block: Block) -> bytes:
    """Return the block as a line of strict JSON that starts with the SHA-256 of the rest."""
    columns = block._asdict()
    if not any(block.error):
        del columns["error"]
    if not block.why:
        del columns["why"]
    if not block.training_set_batches:
        del columns["training_set_batches"]
    columns |= columns.pop("measured")
    body = strict_json(columns, compact=True).encode()
    return b'{"sha256":"%s",%s\n' % (hashlib.sha256(body).hexdigest().encode(), body[1:])


def sweep_at(path: Path) -> SweepFolder | None:
    """Return the sweep in the folder, or None if the folder has none."""
    return SweepFolder(path) if (path / SWEEP).is_file() else None


def sweeps_in(experiment: Path) -> list[SweepFolder]:
    """Return the sweeps of an experiment's folder, last written first."""
    found = [SweepFolder(record.parent) for record in experiment.glob(f"*/{SWEEP}")]
    return sorted(found, key=lambda sweep: sweep.record_file.stat().st_mtime, reverse=True)


def _results_in(content: bytes, file: Path) -> Results:
    blocks, damaged = [], []
    for nth, line in enumerate(BytesIO(content), 1):
        if not line.endswith(b"\n"):  # a partial last line
            break
        try:
            blocks.append(_block_in(line[:-1]))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            text = line[:-1][:200].decode(errors="replace")
            damaged.append(f"{file}:{nth}: damaged line: {shortened(text)}")
    return Results(blocks, damaged)


def _block_in(line: bytes) -> Block:
    """Return the block of a line; raise ValueError, TypeError, KeyError or OverflowError if it is invalid."""
    head = _HEAD.match(line)
    body = b"{" + line[head.end() :] if head else b""
    if not head or hashlib.sha256(body).hexdigest().encode() != head[1]:
        raise ValueError("the SHA-256 does not match")
    columns = strict_decoder.decode(body.decode())
    count = len(columns["run"])
    columns.setdefault("error", [""] * count)
    columns.setdefault("why", "")
    columns.setdefault("training_set_batches", [])
    more = [name for name, column in columns.items() if name not in Block._fields and isinstance(column, list)]
    for name in ("first_loss", "last_loss", "best_loss", *more):
        columns[name] = [None if each is None else loss_in(each) for each in columns[name]]
    columns["measured"] = {name: columns[name] for name in more}
    block = Block(**{name: columns[name] for name in Block._fields})
    if any(len(columns[name]) != count for name in (*_PER_RUN, *more)):
        raise ValueError("columns differ in length")
    if not _are_batches(block.training_set_batches):
        raise ValueError("training_set_batches must be two counts")
    if not all(type(each) is int and 0 <= each < _LARGEST_NUMBER for each in (*block.run, *block.steps)):
        raise ValueError("runs and steps must be counts")
    if not set(block.status) <= {"done", "failed"}:
        raise ValueError("unknown status")
    if not all(
        isinstance(each, str) for each in (block.engine, block.why, *block.error, *filter(None, block.verdict))
    ):
        raise TypeError("verdicts and errors must be text")
    return block


def _are_batches(value: Any) -> bool:
    """Return whether the value is [] or [used, of], two counts."""
    return value == [] or (
        type(value) is list
        and len(value) == 2
        and all(type(each) is int and each < _LARGEST_NUMBER for each in value)
        and 0 < value[0] < value[1]
    )


def _check_grid(record: SweepRecord) -> None:
    """Check the parts of the record that define the run numbers."""
    if record.failed > record.done:
        raise ValueError("failed is greater than done")
    if not _are_batches(record.training_set_batches):
        raise ValueError(f"training_set_batches is {record.training_set_batches}")
    total = max(1, len(record.modes)) * len(record.seeds)
    axes: list[Any] = record.axes
    for axis in axes:
        if not isinstance(axis, dict) or not isinstance(axis["key"], str) or not isinstance(axis["values"], list):
            raise TypeError(f"an axis is {shortened(repr(axis))}")
        total *= len(axis["values"])
    for keep in record.values.get("keep", []):
        if not math.isfinite(keep):
            raise ValueError(f"keep is {keep}")
    for every in record.values.get("every", []):
        if every < 1:
            raise ValueError(f"every is {every}")
    if not 0 < record.runs == total <= _LARGEST_NUMBER:
        raise ValueError(f"the number of runs is {record.runs}")
