"""Sweeps: a folder each, of a record and one file of results, a line a cell, columnar, each with its SHA-256."""

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
from gradlab.store.files import strict_json, unwritable
from gradlab.store.line_log import LineLog
from gradlab.store.record_files import RecordedFolder
from gradlab.store.row_log import loss_in, strict_decoder
from gradlab.store.run_record import Count, Seconds, Seed, Shown  # noqa: TC001 - pydantic evaluates them

if TYPE_CHECKING:
    from pathlib import Path

SWEEP = "sweep.json"
FORMAT = 1
SYNC_EVERY = 1.0  # seconds between two times that results are sent down to the disk
_LARGEST_NUMBER = 10**7
_HEAD = re.compile(rb'\{"sha256":"([0-9a-f]{64})",')


class Block(NamedTuple):
    """What came of the runs of a cell, column by column.

    Attributes:
        engine: what trained them in the end: where an engine cannot train a cell together, the plain loop does.
        run: their numbers.
        status: done or failed.
        verdict: of their curves; None where they failed.
        steps: backward passes.
        first_loss: None where there was no step.
        last_loss: of the last step.
        best_loss: the least that is finite.
        error: what ended a run that failed, else "".
        why: why the cell was trained by another engine than that of the sweep, else "".
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


class Results(NamedTuple):
    """What a file of results holds, by the number of the run.

    Attributes:
        blocks: of all lines that are one, in the order of the file.
        damaged: a message for each line that is none: `…/results.jsonl:17: not a block: …`.
    """

    blocks: list[Block]
    damaged: list[str]

    def by_run(self) -> dict[int, tuple[Block, int]]:
        """Return, by the number of each run, its block and its place in it; in the order of these numbers."""
        places = {run: (block, nth) for block in self.blocks for nth, run in enumerate(block.run)}
        return dict(sorted(places.items()))

    def ended(self) -> dict[str, int]:
        """Return how many runs ended with which verdict, or failed, the most frequent first."""
        there = self.by_run().values()
        return dict(Counter(block.verdict[nth] or block.status[nth] for block, nth in there).most_common())

    def column(self, name: str, runs: int) -> list[Any]:
        """Return a column of all runs, in the order of their numbers; None for a run that is not there."""
        values: list[Any] = [None] * runs
        for block in self.blocks:
            for run, value in zip(block.run, getattr(block, name), strict=True):
                if run < runs:
                    values[run] = value
        return values


@dataclass(frozen=True)
class SweepRecord:
    """What a sweep is: the content of sweep.json."""

    experiment: Shown
    identity: str
    settings: dict[str, Any]  # all that decides the runs but for what varies, in canonical form
    axes: list[dict[str, Any]]  # {"key", "values", "log"} each, in order
    modes: list[str]  # none where keep or every vary
    seeds: list[Seed]
    chunk: Annotated[Count, Field(ge=1)]  # runs of a cell at most: with the grid, it decides which train together
    engine: Shown
    runs: Count  # how many there are to be
    status: Shown  # running, done, interrupted
    title: str = ""
    compiled: StrictBool = False  # whether the step is: results depend on it, in their last digits
    threads: Count = 1
    versions: dict[str, Any] = field(default_factory=dict)
    started: Shown = ""  # UTC, ISO 8601
    seconds: Seconds = 0.0  # of all commands that trained some of it, as far as they ended in order
    run_steps: Count = 0  # backward passes of all runs in these seconds
    done: Count = 0  # runs that were trained, when the status was written
    failed: Count = 0  # of these, those whose task raised
    sharpness: dict[str, Any] | None = None  # once it is measured: λ of each seed; {} where no edge is known
    writer: dict[str, Any] = field(default_factory=dict)  # while it is running: the process, {"pid", "host"}
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
        """Backward passes of all runs a second; None where no command has ended in order."""
        return self.run_steps / self.seconds if self.seconds > 0 else None


class SweepFolder(RecordedFolder[SweepRecord]):
    """The folder of one sweep, and the names of the files in it."""

    record_name, log_name = SWEEP, "results.jsonl"
    kind, what = SweepRecord, "a sweep's record"

    @property
    def results_file(self) -> Path:
        """results.jsonl."""
        return self.log_file

    @property
    def picture_file(self) -> Path:
        """phase.png, where `gradlab plot` draws."""
        return self.path / "phase.png"

    def results(self) -> Results:
        """Return the results so far, none where none are; a last line without its end is left out.

        Raises:
            StoreError: the file cannot be read.
        """
        return _results_in(self.logged(), self.results_file)

    def log(self, *, fresh: bool = False) -> BlockLog:
        """Return what appends results; a last line without its end is cut off, and all where `fresh`.

        Raises:
            StoreError: the file cannot be written, or another process writes it; it stays as it is then.
        """
        try:
            return BlockLog(self.results_file, fresh=fresh)
        except BlockingIOError:
            raise self.being_written() from None

    def drop_if_empty(self) -> None:
        """Remove the folder if nothing has been trained in it, and that of its experiment if nothing else is there."""
        with suppress(OSError):
            if not self.record_file.exists() and not self.results_file.stat().st_size:
                self.results_file.unlink()
        for path in (self.path, self.path.parent):
            with suppress(OSError):
                path.rmdir()


class BlockLog(LineLog):
    """Appends blocks to the file of results, in whole lines, one after the other; one process at a time."""

    def __init__(self, file: Path, *, fresh: bool = False) -> None:
        """Take the file for this process alone, and cut off a last line without its end, or all where `fresh`.

        Raises:
            StoreError: it cannot be written; then it stays as it is.
            BlockingIOError: another process writes it.
        """
        super().__init__(file, None if fresh else lambda content: content[: content.rfind(b"\n") + 1])
        self._sync_at = time.monotonic() + SYNC_EVERY

    def append(self, block: Block) -> None:
        """Write a block, whole or not at all, and now and then all that is written down to the disk.

        Raises:
            StoreError: the disk does not take it.
        """
        try:
            self._write(block_line(block))
        except OSError as error:
            raise unwritable(self.file, error) from None
        if time.monotonic() >= self._sync_at:
            self.sync()
            self._sync_at = time.monotonic() + SYNC_EVERY


def block_line(block: Block) -> bytes:
    """Return the block as a line of strict JSON, the SHA-256 of the rest of it before all else."""
    columns = block._asdict()
    if not any(block.error):
        del columns["error"]
    if not block.why:
        del columns["why"]
    body = strict_json(columns, compact=True).encode()
    return b'{"sha256":"%s",%s\n' % (hashlib.sha256(body).hexdigest().encode(), body[1:])


def sweep_at(path: Path) -> SweepFolder | None:
    """Return the sweep in the folder, or None where it is not one of a sweep."""
    return SweepFolder(path) if (path / SWEEP).is_file() else None


def sweeps_in(experiment: Path) -> list[SweepFolder]:
    """Return the sweeps in the folder of an experiment, the one written last first."""
    found = [SweepFolder(record.parent) for record in experiment.glob(f"*/{SWEEP}")]
    return sorted(found, key=lambda sweep: sweep.record_file.stat().st_mtime, reverse=True)


def _results_in(content: bytes, file: Path) -> Results:
    blocks, damaged = [], []
    for nth, line in enumerate(BytesIO(content), 1):
        if not line.endswith(b"\n"):  # the last one, torn
            break
        try:
            blocks.append(_block_in(line[:-1]))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            text = line[:-1][:200].decode(errors="replace")
            damaged.append(f"{file}:{nth}: not a block: {shortened(text)}")
    return Results(blocks, damaged)


def _block_in(line: bytes) -> Block:
    """Return the block that a line says; what is wrong with it is a ValueError, TypeError, KeyError, OverflowError."""
    head = _HEAD.match(line)
    body = b"{" + line[head.end() :] if head else b""
    if not head or hashlib.sha256(body).hexdigest().encode() != head[1]:
        raise ValueError("it is not what was written")
    columns = strict_decoder.decode(body.decode())
    count = len(columns["run"])
    columns.setdefault("error", [""] * count)
    columns.setdefault("why", "")
    for name in ("first_loss", "last_loss", "best_loss"):
        columns[name] = [None if each is None else loss_in(each) for each in columns[name]]
    block = Block(**{name: columns[name] for name in Block._fields})
    if any(len(column) != count for column in block[1:-1]):
        raise ValueError("its columns are not of one length")
    if not all(type(each) is int and 0 <= each < _LARGEST_NUMBER for each in (*block.run, *block.steps)):
        raise ValueError("runs and steps are counts")
    if not set(block.status) <= {"done", "failed"}:
        raise ValueError("a status that there is none of")
    if not all(
        isinstance(each, str) for each in (block.engine, block.why, *block.error, *filter(None, block.verdict))
    ):
        raise TypeError("a verdict or an error is no text")
    return block


def _check_grid(record: SweepRecord) -> None:
    """Check what the numbers of runs are made of."""
    if record.failed > record.done:
        raise ValueError("failed is more than done")
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
