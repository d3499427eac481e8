"""A log: a file to which one process at a time appends complete lines."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from weakref import WeakSet

from gradlab.errors import StoreError
from gradlab.store.files import unwritable
from gradlab.store.locks import open_locked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType


class LineLog:
    """Appends complete lines to a file, which stays locked until the log is closed."""

    def __init__(self, file: Path, kept: Callable[[bytes], bytes] | None) -> None:
        """Lock the file for this process and truncate it.

        Args:
            file: the log file.
            kept: takes the content and returns the leading lines to keep; None keeps nothing.

        Raises:
            StoreError: the file cannot be written, or `kept` raises this error. The file stays unchanged.
            BlockingIOError: another process writes the file.
        """
        self.file = file
        self._whole = 0  # bytes of complete lines
        self._handle = open_locked(file)
        try:
            lines = b""
            if kept:
                with os.fdopen(self._handle, "rb", closefd=False) as stream:
                    lines = kept(stream.read())
            os.ftruncate(self._handle, len(lines))
        except BaseException as error:
            os.close(self._handle)
            if isinstance(error, OSError):
                raise unwritable(file, error) from None
            raise
        self._wrote(lines)
        _open.add(self)

    def flush(self) -> None:
        """Write all pending lines."""

    def sync(self) -> None:
        """Write all pending lines and sync them to the disk.

        Raises:
            StoreError: the lines cannot be written.
        """
        try:
            self.flush()
            os.fsync(self._handle)
        except OSError as error:
            raise unwritable(self.file, error) from None

    def close(self) -> None:
        """Close the file and release its lock."""
        _open.discard(self)
        handle, self._handle = self._handle, -1
        if handle >= 0:
            with suppress(OSError):  # the lines are on the disk, or the error was reported
                os.close(handle)

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
            self.close()

    def _write(self, lines: bytes) -> None:
        """Write lines. If the disk fails, keep the complete ones; on an interruption, keep none.

        Raises:
            OSError: the disk did not accept all lines.
        """
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._handle, lines[written:])
        except BaseException as error:
            self._wrote(lines[: lines.rfind(b"\n", 0, written) + 1] if isinstance(error, OSError) else b"")
            with suppress(OSError):
                os.ftruncate(self._handle, self._whole)
            raise
        self._wrote(lines)

    def _wrote(self, lines: bytes) -> None:
        self._whole += len(lines)


_open: WeakSet[LineLog] = WeakSet()


def _close_all() -> None:
    for log in list(_open):
        log.close()


if hasattr(os, "register_at_fork"):  # otherwise a DataLoader's workers would keep the lock as long as they live
    os.register_at_fork(after_in_child=_close_all)
