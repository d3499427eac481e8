"""Sweeps: a folder each, of a record and one file of results, a line a cell, columnar, each with its SHA-256."""

from __future__ import annotations

import hashlib
import math
import os
import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from gradlab.errors import StoreError, shortened
from gradlab.store.files import make_folder, strict_json, unwritable
from gradlab.store.locks import open_locked
from gradlab.store.record_files import being_written, current_record, parsed_record, read_if_there, write_record
from gradlab.store.row_log import loss_in, strict_decoder

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

SWEEP = "sweep.json"
FORMAT = 1
SYNC_EVERY = 1.0  # seconds between two times that results are sent down to the disk
MOST_RUNS = 10**7
_RESULTS = "results.jsonl"
_HEAD = re.compile(rb'\{"sha256":"([0-9a-f]{64})",')
_LONGEST = 1000


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

    experiment: str
    identity: str
    settings: dict[str, Any]  # all that decides the runs but for what varies, in canonical form
    axes: list[dict[str, Any]]  # {"key", "values", "log"} each, in order
    modes: list[str]  # none where keep or every vary
    seeds: list[int]
    chunk: int  # runs of a cell at most: with the grid, all that decides which runs are trained together
    engine: str
    runs: int  # how many there are to be
    status: str  # running, done, interrupted
    title: str = ""
    compiled: bool = False  # whether the step is: results depend on it, in their last digits
    threads: int = 1
    versions: dict[str, str] = field(default_factory=dict)
    started: str = ""  # UTC, ISO 8601
    seconds: float = 0.0  # of all commands that trained some of it, as far as they ended in order
    run_steps: int = 0  # backward passes of all runs in these seconds
    done: int = 0  # runs that were trained, when the status was written
    failed: int = 0  # of these, those whose task raised
    sharpness: dict[str, Any] | None = None  # once it is measured: λ of each seed; {} where no edge is known
    writer: dict[str, Any] = field(default_factory=dict)  # while it is running: the process, {"pid", "host"}
    format: int = FORMAT

    @property
    def values(self) -> dict[str, list[Any]]:
        """The values of each axis, by its key."""
        return {axis["key"]: axis["values"] for axis in self.axes}

    @property
    def rate(self) -> float | None:
        """Backward passes of all runs a second; None where no command has ended in order."""
        return self.run_steps / self.seconds if self.seconds > 0 else None


@dataclass(frozen=True)
class SweepFolder:
    """The folder of one sweep, and the names of the files in it."""

    path: Path

    @property
    def record_file(self) -> Path:
        """sweep.json."""
        return self.path / SWEEP

    @property
    def results_file(self) -> Path:
        """results.jsonl."""
        return self.path / _RESULTS

    @property
    def picture_file(self) -> Path:
        """phase.png, where `gradlab plot` draws."""
        return self.path / "phase.png"

    def write(self, record: SweepRecord) -> None:
        """Replace the record atomically; while it says "running", with the name of this process.

        Raises:
            StoreError: it cannot be written.
        """
        write_record(self.record_file, record)

    def read(self) -> SweepRecord:
        """Return the record; one that says "running" while no process writes results is that of an interrupted sweep.

        Raises:
            StoreError: there is none, or it is not one that this version reads.
        """
        return current_record(self._recorded, self.results_file)

    def results(self) -> Results:
        """Return the results so far, none where none are; a last line without its end is left out.

        Raises:
            StoreError: the file cannot be read.
        """
        return _results_in(read_if_there(self.results_file), self.results_file)

    def log(self, *, fresh: bool = False) -> BlockLog:
        """Return what appends results; a last line without its end is cut off, and all where `fresh`.

        Raises:
            StoreError: the file cannot be written, or another process writes it; it stays as it is then.
        """
        try:
            return BlockLog(self.results_file, fresh=fresh)
        except BlockingIOError:
            raise being_written(self.results_file, self._recorded) from None

    def make(self) -> None:
        """Make the folder.

        Raises:
            StoreError: nothing can be written there.
        """
        make_folder(self.path)

    def drop_if_empty(self) -> None:
        """Remove the folder if nothing has been trained in it, and that of its experiment if nothing else is there."""
        with suppress(OSError):
            if not self.record_file.exists() and not self.results_file.stat().st_size:
                self.results_file.unlink()
        for path in (self.path, self.path.parent):
            with suppress(OSError):
                path.rmdir()

    def _recorded(self) -> SweepRecord:
        return parsed_record(self.record_file, SweepRecord, FORMAT, _checked, "a sweep's record")


class BlockLog:
    """Appends blocks to the file of results, in whole lines, one after the other; one process at a time."""

    def __init__(self, file: Path, *, fresh: bool = False) -> None:
        """Take the file for this process alone, and cut off a last line without its end, or all where `fresh`.

        Raises:
            StoreError: it cannot be written; then it stays as it is.
            BlockingIOError: another process writes it.
        """
        self.file = file
        self._synced = time.monotonic()
        self._handle = open_locked(file)
        try:
            self._whole = 0 if fresh else self._whole_lines()
            os.ftruncate(self._handle, self._whole)
        except BaseException as error:
            os.close(self._handle)
            if isinstance(error, OSError):
                raise unwritable(file, error) from None
            raise

    def append(self, block: Block) -> None:
        """Write a block, whole or not at all, and now and then all that is written down to the disk.

        Raises:
            StoreError: the disk does not take it.
        """
        line = block_line(block)
        written = 0
        try:
            while written < len(line):
                written += os.write(self._handle, line[written:])
            self._whole += len(line)
            if time.monotonic() - self._synced >= SYNC_EVERY:
                self.sync()
        except OSError as error:
            raise unwritable(self.file, error) from None
        finally:
            if written < len(line):
                with suppress(OSError):
                    os.ftruncate(self._handle, self._whole)

    def sync(self) -> None:
        """Let what is written reach the disk.

        Raises:
            StoreError: it does not.
        """
        try:
            os.fsync(self._handle)
        except OSError as error:
            raise unwritable(self.file, error) from None
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.sync()
        except StoreError:
            if kind is None:
                raise
        finally:
            with suppress(OSError):
                os.close(self._handle)

    def _whole_lines(self) -> int:
        """Return how many bytes of the file are whole lines."""
        with os.fdopen(self._handle, "rb", closefd=False) as stream:
            return stream.read().rfind(b"\n") + 1


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
    if not all(type(each) is int and 0 <= each < MOST_RUNS for each in (*block.run, *block.steps)):
        raise ValueError("runs and steps are counts")
    if not set(block.status) <= {"done", "failed"}:
        raise ValueError("a status that there is none of")
    if not all(
        isinstance(each, str) for each in (block.engine, block.why, *block.error, *filter(None, block.verdict))
    ):
        raise TypeError("a verdict or an error is no text")
    return block


def _checked(record: SweepRecord) -> SweepRecord:
    """Check the types of what others rely on: the file may have been edited by hand."""
    kinds: dict[str, Any] = {"settings": dict, "versions": dict, "writer": dict, "seconds": float | int}
    kinds |= {"chunk": int, "runs": int, "run_steps": int, "done": int, "failed": int, "threads": int}
    kinds |= {"axes": list, "modes": list, "seeds": list, "sharpness": dict | None, "compiled": bool}
    kinds |= dict.fromkeys(("experiment", "identity", "status", "title", "engine", "started"), str)
    for name, kind in kinds.items():
        if not isinstance(getattr(record, name), kind):
            raise TypeError(f"{name} is {shortened(repr(getattr(record, name)))}")
    for name in ("experiment", "status", "started", "engine"):  # shown, and exported as they are
        if not getattr(record, name).isprintable() or len(getattr(record, name)) > _LONGEST:
            raise ValueError(f"{name} is {shortened(repr(getattr(record, name)))}")
    if not (record.seconds >= 0 and record.run_steps >= 0 and 0 <= record.failed <= record.done):
        raise ValueError("seconds, run_steps or done out of range")
    _check_grid(record)
    return record


def _check_grid(record: SweepRecord) -> None:
    """Check what the numbers of runs are made of."""
    seeds: list[Any] = record.seeds
    if not all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds):
        raise TypeError("a seed is none")
    words: list[Any] = record.modes
    if not all(isinstance(mode, str) for mode in words):
        raise TypeError("a mode is no word")
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
    if not 0 < record.runs == total <= MOST_RUNS or record.chunk < 1:
        raise ValueError(f"the number of runs is {record.runs}")
