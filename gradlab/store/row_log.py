"""The rows of a run, metrics.jsonl: one line a row, appended in whole lines by a thread of their own."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import deque
from functools import partial
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from gradlab.errors import StoreError, shortened
from gradlab.rows import Row
from gradlab.store.files import unwritable
from gradlab.store.line_log import LineLog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


class RowLog(LineLog):
    """Appends rows to the file of a run, in whole lines and at the latest half a second after they were logged.

    A thread of its own writes them: a system call a row costs a small model several percent of its step.
    """

    def __init__(self, file: Path, keep: int = 0) -> None:
        """Take the file for this process alone, and cut it back to its first `keep` rows, those of steps 0 to keep-1.

        Raises:
            StoreError: it cannot be written, or begins with fewer whole rows; then it stays as it is.
            BlockingIOError: another process writes it.
        """
        self._pending: deque[Row] = deque()  # appended to by one thread and emptied by another, both atomically
        self._fault: OSError | None = None
        self._writing, self._closed = threading.Lock(), threading.Event()
        self._hash = hashlib.sha256()
        super().__init__(file, partial(_first_rows, keep, file) if keep else None)
        threading.Thread(target=self._write_periodically, name="rows", daemon=True).start()

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
            rows, written = list[Row](), self._whole
            try:
                while self._pending:
                    rows.append(self._pending.popleft())
                self._write("".join(map(row_line, rows)).encode())
            except OSError as fault:
                self._fault = fault
                raise
            except BaseException:  # Ctrl-C: unless the rows are written, they stay pending
                if self._whole == written:
                    self._pending.extendleft(reversed(rows))
                raise

    def __exit__(self, *raised: object) -> None:
        self._closed.set()
        super().__exit__(*raised)  # type: ignore[arg-type]  # the three that Python passes

    def _wrote(self, lines: bytes) -> None:
        super()._wrote(lines)
        self._hash.update(lines)

    def _write_periodically(self) -> None:
        while not self._closed.wait(WRITE_EVERY):
            try:
                self.flush()
            except OSError:
                return  # reported at the next row


def _first_rows(keep: int, file: Path, content: bytes) -> bytes:
    """Return the lines of the first `keep` rows."""
    lines = list(islice(_whole_lines(content), keep))
    if len(lines) < keep:
        raise StoreError(f"{file} begins with {len(lines)} whole rows where {keep} are to be kept")
    return b"".join(lines)


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
