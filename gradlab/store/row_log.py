"""The rows of a run in metrics.jsonl: one line per row, appended by a separate thread."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import deque
from functools import partial
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from gradlab.errors import StoreError, shortened
from gradlab.rows import Geometry, Row
from gradlab.store.files import unwritable
from gradlab.store.line_log import LineLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")
WRITE_EVERY = 0.5  # seconds
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Rows(NamedTuple):
    """The content of a file of rows.

    Attributes:
        rows: all valid rows, in the order of the file.
        damaged: one message per invalid line, with its number: `…/metrics.jsonl:17: not a row: …`.
        sha256: the SHA-256 of all complete lines.
    """

    rows: list[Row]
    damaged: list[str]
    sha256: str


class RowLog(LineLog):
    """Appends rows to the file of a run, in complete lines, within half a second.

    A separate thread writes them: one system call per row would slow down a small model by several percent.
    """

    def __init__(self, file: Path, keep: int = 0) -> None:
        """Lock the file for this process and truncate it to the rows of steps 0 to keep-1.

        Raises:
            StoreError: the file cannot be written or has too few intact rows. It stays unchanged.
            BlockingIOError: another process writes the file.
        """
        self._pending: deque[Row] = deque()  # one thread appends and another removes, both atomically
        self._fault: OSError | None = None
        self._writing, self._closed = threading.Lock(), threading.Event()
        self._hash = hashlib.sha256()
        super().__init__(file, partial(_first_rows, keep, file) if keep else None)
        self._thread = threading.Thread(target=self._write_periodically, name="rows", daemon=True)
        self._thread.start()

    @property
    def sha256(self) -> str:
        """The SHA-256 of all written lines."""
        return self._hash.hexdigest()

    def append(self, row: Row) -> None:
        """Log one row.

        Raises:
            StoreError: an earlier row could not be written, for example because the disk is full.
        """
        if self._fault:
            raise unwritable(self.file, self._fault)
        self._pending.append(row)

    def flush(self) -> None:
        """Write all pending rows in complete lines.

        Raises:
            OSError: the disk failed; nothing more will be written.
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
            except BaseException:  # Ctrl-C: keep the rows unless they were written
                if self._whole == written:
                    self._pending.extendleft(reversed(rows))
                raise

    def __exit__(self, *raised: object) -> None:
        self._closed.set()
        self._thread.join()
        super().__exit__(*raised)  # type: ignore[arg-type]  # the three arguments that Python passes

    def _wrote(self, lines: bytes) -> None:
        super()._wrote(lines)
        self._hash.update(lines)

    def _write_periodically(self) -> None:
        while not self._closed.wait(WRITE_EVERY):
            try:
                self.flush()
            except OSError:
                return  # `append` reports it at the next row


def _first_rows(keep: int, file: Path, content: bytes) -> bytes:
    """Return the lines of the first `keep` rows."""
    lines = list(islice(_whole_lines(content), keep))
    if len(lines) < keep:
        raise StoreError(f"{file} begins with {len(lines)} intact rows, but {keep} are needed")
    return b"".join(lines)


def rows_in(content: bytes, file: Path) -> Rows:
    """Return the rows and the damaged lines of a file's content; skip a partial last line."""
    rows, damaged, digest = [], [], hashlib.sha256()
    for nth, (line, row) in enumerate(parsed_lines(content, _row), 1):
        digest.update(line)
        if row is None:
            text = line[:200].decode(errors="replace").rstrip("\n")
            damaged.append(f"{file}:{nth}: not a row: {shortened(text)}")
        else:
            rows.append(row)
    return Rows(rows, damaged, digest.hexdigest())


def whole_rows(content: bytes) -> int:
    """Return the number of leading rows that are intact and in order, from step 0 on."""
    return sum(1 for _ in _whole_lines(content))


def row_line(row: Row) -> str:
    """Return the row as a line of strict JSON."""
    more = f',"items":{row.items!r}' if row.items != 1 else ""
    if row.geometry is not None:
        pairs = zip(Geometry._fields, row.geometry, strict=True)
        more += "".join(f',"{name}":{_number(value)}' for name, value in pairs)
    return f'{{"step":{row.step},"update":{row.update},"epoch":{row.epoch},"loss":{_number(row.loss)}{more}}}\n'


def _number(value: float) -> str:
    """Return the number in strict JSON: a string if it is not finite."""
    return repr(value) if math.isfinite(value) else f'"{value!r}"'


def _whole_lines(content: bytes) -> Iterator[bytes]:
    """Yield the leading lines that are intact rows in order, from step 0 on."""
    for step, (line, row) in enumerate(parsed_lines(content, _row)):
        if row is None or row.step != step:
            return
        yield line


def parsed_lines(content: bytes, parse: Callable[[dict[str, Any]], T]) -> Iterator[tuple[bytes, T | None]]:
    """Yield each complete line with what `parse` makes of its JSON object, or None if it is invalid."""
    for line in BytesIO(content):
        if not line.endswith(b"\n"):
            return
        try:
            found = parse(strict_decoder.decode(line.decode()))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            yield line, None
        else:
            yield line, found


def _row(line: dict[str, Any]) -> Row:
    """Return the row of a parsed line; raise ValueError, TypeError, KeyError or OverflowError if it is invalid."""
    for name in ("step", "update", "epoch"):
        if type(line[name]) is not int or line[name] < 0:
            raise ValueError(f"{name} must be a count")
    items = line.get("items", 1)
    if isinstance(items, bool) or not isinstance(items, int | float) or not 0 < items < math.inf:
        raise ValueError("items must be positive and finite")
    return Row(line["step"], line["update"], line["epoch"], loss_in(line["loss"]), items, _geometry(line))


def _geometry(line: dict[str, Any]) -> Geometry | None:
    """Return the geometry in a parsed line, None without one; raise like `_row` if it is incomplete or impossible."""
    if line.keys().isdisjoint(Geometry._fields):
        return None
    found = Geometry(*(loss_in(line[name]) for name in Geometry._fields))
    if any(each < 0 for each in found._replace(cosine=0.0)) or abs(found.cosine) > 1:  # NaN is neither
        raise ValueError("norms must be at least 0, and a cosine from -1 to 1")
    return found


def loss_in(value: object) -> float:
    """Return the loss of a JSON value; raise ValueError or KeyError if it is invalid."""
    if isinstance(value, str):
        return _NOT_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
        raise ValueError("a finite loss must be a number, any other a string")
    return float(value)


def _no_token(token: str) -> NoReturn:
    raise ValueError(f"{token} is not JSON")


strict_decoder = json.JSONDecoder(parse_constant=_no_token)  # created once: json.loads would create one per line
