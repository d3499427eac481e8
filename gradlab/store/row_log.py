"""The rows of a run, metrics.jsonl: one line a row, appended in whole lines by a thread of their own."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from gradlab.errors import StoreError
from gradlab.rows import Row
from gradlab.store.files import lock, unwritable

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

WRITE_EVERY = 0.5  # seconds


class RowLog:
    """Appends rows to the file of a run, in whole lines and at the latest half a second after they were logged.

    A thread of its own writes them: a system call a row costs a small model several percent of its step.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._pending: deque[Row] = deque()  # appended to by one thread and emptied by another, both atomically
        self._fault: OSError | None = None
        self._writing, self._closed = threading.Lock(), threading.Event()
        try:
            self._handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            lock(self._handle)
            os.ftruncate(self._handle, 0)
        except BlockingIOError:
            os.close(self._handle)
            raise StoreError(f"{file} is being written by another gradlab") from None
        except OSError as error:
            raise unwritable(file, error) from None
        self._whole = 0  # bytes of whole lines written
        self._writer = threading.Thread(target=self._write_now_and_then, name="rows", daemon=True)
        self._writer.start()

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
            lines = []
            while self._pending:
                lines.append(row_line(self._pending.popleft()))
            content = left = "".join(lines).encode()
            try:
                while left:
                    left = left[os.write(self._handle, left) :]
            except OSError as fault:
                self._fault = fault
                with suppress(OSError):
                    os.ftruncate(self._handle, self._whole)  # no torn line
                raise
            self._whole += len(content)

    def finish(self) -> None:
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
        self._writer.join()
        try:
            self.finish()
        except StoreError:
            if kind is None:
                raise
        finally:
            os.close(self._handle)

    def _write_now_and_then(self) -> None:
        while not self._closed.wait(WRITE_EVERY):
            try:
                self.flush()
            except OSError:
                return  # told at the next row


def row_line(row: Row) -> str:
    """Return the row as a line of strict JSON."""
    loss = row.loss if math.isfinite(row.loss) else f'"{row.loss!r}"'
    items = f',"items":{row.items!r}' if row.items != 1 else ""
    return f'{{"step":{row.step},"update":{row.update},"epoch":{row.epoch},"loss":{loss}{items}}}\n'


def row_of(line: dict[str, Any]) -> Row:
    """Return the row that a line says; what is wrong with it is a ValueError, TypeError or KeyError."""
    row = Row(int(line["step"]), int(line["update"]), int(line["epoch"]), float(line["loss"]))
    items = line.get("items", 1)
    if isinstance(items, bool) or not isinstance(items, int | float) or not 0 < items < math.inf:
        raise ValueError("a loss is the mean of something")
    return row._replace(items=items)
