"""A log: a file to which one process at a time appends whole lines."""

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
    """Appends whole lines to a file, which is locked until the log is closed."""

    def __init__(self, file: Path, kept: Callable[[bytes], bytes] | None) -> None:
        """Take the file for this process alone, and cut it back.

        Args:
            file: of the log.
            kept: returns the lines to keep, with which what the file holds begins; None keeps none.

        Raises:
            StoreError: it cannot be written, or `kept` raises it; then it stays as it is.
            BlockingIOError: another process writes it.
        """
        self.file = file
        self._whole = 0  # bytes of whole lines
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
        """Write what is pending, in whole lines."""

    def sync(self) -> None:
        """Write all lines, down to the disk.

        Raises:
            StoreError: they cannot be written.
        """
        try:
            self.flush()
            os.fsync(self._handle)
        except OSError as error:
            raise unwritable(self.file, error) from None

    def close(self) -> None:
        """Close the file, so that another process may write it."""
        _open.discard(self)
        handle, self._handle = self._handle, -1
        if handle >= 0:
            with suppress(OSError):  # what was written is on the disk, or the fault was reported
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
        """Write lines; where the disk takes only some, keep the whole ones, and where interrupted, none.

        Raises:
            OSError: the disk does not take all.
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


if hasattr(os, "register_at_fork"):  # a DataLoader's workers would hold the lock for as long as they live
    os.register_at_fork(after_in_child=_close_all)
