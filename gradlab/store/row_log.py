"""The rows of a run, metrics.jsonl: one line a row, appended in whole lines by a thread of their own."""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections import deque
from contextlib import suppress
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Self
from weakref import WeakSet

from gradlab.errors import StoreError, shortened
from gradlab.rows import Row
from gradlab.store.files import unwritable
from gradlab.store.locks import open_locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

WRITE_EVERY = 0.5  # seconds
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Rows(NamedTuple):
    """What a file of rows holds.

    Attributes:
        rows: of all lines that are one, in the order of the file.
        damaged: a message for each line that is none, with its number: `…/metrics.jsonl:17: not a row: …`.
        sha256: of all whole lines.
    """

    rows: list[Row]
    damaged: list[str]
    sha256: str


class RowLog:
    """Appends rows to the file of a run, in whole lines and at the latest half a second after they were logged.

    A thread of its own writes them: a system call a row costs a small model several percent of its step.
    """

    def __init__(self, file: Path, keep: int = 0) -> None:
        """Take the file for this process alone, and cut it back to its first `keep` rows, those of steps 0 to keep-1.

        Raises:
            StoreError: it cannot be written, or begins with fewer whole rows; then it stays as it is.
            BlockingIOError: another process writes it.
        """
        self.file = file
        self._pending: deque[Row] = deque()  # appended to by one thread and emptied by another, both atomically
        self._fault: OSError | None = None
        self._writing, self._closed = threading.Lock(), threading.Event()
        self._handle = open_locked(file)
        try:
            kept = self._kept(keep)
            os.ftruncate(self._handle, len(kept))
        except BaseException as error:
            os.close(self._handle)
            if isinstance(error, OSError):
                raise unwritable(file, error) from None
            raise
        self._whole = len(kept)  # bytes of whole lines written
        self._hash = hashlib.sha256(kept)
        _open.add(self)
        self._writer = threading.Thread(target=self._write_periodically, name="rows", daemon=True)
        self._writer.start()

    @property
    def sha256(self) -> str:
        """The SHA-256 of all lines written."""
        return self._hash.hexdigest()

    def append(self, row: Row) -> None:
        """Log one row.

        Raises:
            StoreError: a row before it could not be written: the disk is full or gone.
        """
        if self._fault:
            raise unwritable(self.file, self._fault)
        self._pending.append(row)

    def flush(self) -> None:
        """Write what is logged, in whole lines.

        Raises:
            OSError: the disk does not take it; nothing is written any more.
        """
        with self._writing:
            if self._fault:
                raise self._fault
            rows: list[Row] = []
            written = 0
            try:
                while self._pending:
                    rows.append(self._pending.popleft())
                content = "".join(map(row_line, rows)).encode()
                while written < len(content):
                    written += os.write(self._handle, content[written:])
            except OSError as fault:
                self._fault = fault
                self._wrote(content[: content.rfind(b"\n", 0, written) + 1])
                self._cut_back()
                raise
            except BaseException:  # Ctrl-C in between: as if nothing had been written yet
                self._pending.extendleft(reversed(rows))
                self._cut_back()
                raise
            self._wrote(content)

    def sync(self) -> None:
        """Write what is logged, down to the disk.

        Raises:
            StoreError: it cannot be written.
        """
        try:
            self.flush()
            os.fsync(self._handle)
        except OSError as error:
            raise unwritable(self.file, error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        try:
            self._writer.join()
            self.sync()
        except StoreError:
            if kind is None:
                raise
        finally:
            self.close()

    def close(self) -> None:
        """Close the file, so that another process may write it."""
        _open.discard(self)
        handle, self._handle = self._handle, -1
        if handle >= 0:
            with suppress(OSError):  # what was written is on the disk, or the fault was reported
                os.close(handle)

    def _kept(self, keep: int) -> bytes:
        """Return the lines of the first `keep` rows."""
        if not keep:
            return b""
        with os.fdopen(self._handle, "rb", closefd=False) as stream:
            content = stream.read()
        lines = list(islice(_whole_lines(content), keep))
        if len(lines) < keep:
            raise StoreError(f"{self.file} begins with {len(lines)} whole rows where {keep} are to be kept")
        return b"".join(lines)

    def _wrote(self, content: bytes) -> None:
        self._whole += len(content)
        self._hash.update(content)

    def _cut_back(self) -> None:
        """Leave no torn line."""
        with suppress(OSError):
            os.ftruncate(self._handle, self._whole)

    def _write_periodically(self) -> None:
        while not self._closed.wait(WRITE_EVERY):
            try:
                self.flush()
            except OSError:
                return  # reported at the next row


_open: WeakSet[RowLog] = WeakSet()


def _close_all() -> None:
    for log in list(_open):
        log.close()


if hasattr(os, "register_at_fork"):  # a DataLoader's workers would hold the lock for as long as they live
    os.register_at_fork(after_in_child=_close_all)


def rows_in(content: bytes, file: Path) -> Rows:
    """Return the rows in what a file holds, and which lines are none; a last line without its end is left out."""
    rows, damaged, digest = [], [], hashlib.sha256()
    for nth, (line, row) in enumerate(_lines(content), 1):
        digest.update(line)
        if row is None:
            text = line[:200].decode(errors="replace").rstrip("\n")
            damaged.append(f"{file}:{nth}: not a row: {shortened(text)}")
        else:
            rows.append(row)
    return Rows(rows, damaged, digest.hexdigest())


def whole_rows(content: bytes) -> int:
    """Return how many rows a file begins with that are whole and those of steps 0, 1, 2, and so on."""
    return sum(1 for _ in _whole_lines(content))


def row_line(row: Row) -> str:
    """Return the row as a line of strict JSON."""
    loss = row.loss if math.isfinite(row.loss) else f'"{row.loss!r}"'
    items = f',"items":{row.items!r}' if row.items != 1 else ""
    return f'{{"step":{row.step},"update":{row.update},"epoch":{row.epoch},"loss":{loss}{items}}}\n'


def _whole_lines(content: bytes) -> Iterator[bytes]:
    """Yield the lines that the content begins with, as long as they are rows of steps 0, 1, 2, and so on."""
    for step, (line, row) in enumerate(_lines(content)):
        if row is None or row.step != step:
            return
        yield line


def _lines(content: bytes) -> Iterator[tuple[bytes, Row | None]]:
    """Yield each line that has its end, with the row in it, or None where it is not a row."""
    for line in BytesIO(content):
        if not line.endswith(b"\n"):
            return
        try:
            row = _row(strict_decoder.decode(line.decode()))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            row = None
        yield line, row


def _row(line: dict[str, Any]) -> Row:
    """Return the row that a line says; what is wrong with it is a ValueError, TypeError, KeyError or OverflowError."""
    for name in ("step", "update", "epoch"):
        if type(line[name]) is not int or line[name] < 0:
            raise ValueError(f"{name} is a count")
    items = line.get("items", 1)
    if isinstance(items, bool) or not isinstance(items, int | float) or not 0 < items < math.inf:
        raise ValueError("a loss is the mean of something")
    return Row(line["step"], line["update"], line["epoch"], loss_in(line["loss"]), items)


def loss_in(value: object) -> float:
    """Return a loss as JSON has it; what is none of strict JSON is a ValueError or KeyError."""
    if isinstance(value, str):
        return _NOT_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
        raise ValueError("a loss is a number, and a string where it is not finite")
    return float(value)


def _no_token(token: str) -> NoReturn:
    raise ValueError(f"{token} is not JSON")


strict_decoder = json.JSONDecoder(parse_constant=_no_token)  # made once: json.loads would make one a line
