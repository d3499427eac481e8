"""Folders of runs and sweeps: writing, reading and validating the record, and detecting a writer."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from gradlab.errors import StoreError, shortened
from gradlab.store.files import make_folder, read_bytes, read_json, replace_json
from gradlab.store.locks import is_locked

if TYPE_CHECKING:
    from pathlib import Path


class Recorded(Protocol):
    """A record: a frozen dataclass with the status of a run or sweep and its writing process."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def status(self) -> str:
        """For example running, done, interrupted."""

    @property
    def started(self) -> str:
        """Start time: UTC, ISO 8601."""

    @property
    def writer(self) -> dict[str, Any]:
        """The writing process, {"pid", "host"}; empty unless running."""


T = TypeVar("T")
R = TypeVar("R", bound=Recorded)


@dataclass(frozen=True)
class RecordedFolder(Generic[R]):
    """A folder with a record and a log that its writer locks.

    Attributes:
        path: the folder.
        record_name: the file name of the record.
        log_name: the file name of the log.
        kind: the class of the record.
        what: the name of the record in messages.
    """

    path: Path
    record_name: ClassVar[str]
    log_name: ClassVar[str]
    kind: ClassVar[type[Any]]
    what: ClassVar[str]

    @property
    def record_file(self) -> Path:
        """The file of the record."""
        return self.path / self.record_name

    @property
    def log_file(self) -> Path:
        """The file of the log."""
        return self.path / self.log_name

    def make(self) -> None:
        """Create the folder.

        Raises:
            StoreError: the folder cannot be created or written to.
        """
        make_folder(self.path)

    def write(self, record: R) -> None:
        """Replace the record atomically; add this process as the writer if the status is running.

        Raises:
            StoreError: the record cannot be written.
        """
        running = record.status == "running"
        writer = {"pid": os.getpid(), "host": platform.node()} if running else {}
        replace_json(self.record_file, asdict(replace(record, writer=writer)))

    def read(self) -> R:
        """Return the record; the status "running" becomes "interrupted" if no process writes the log.

        Raises:
            StoreError: the record is missing or invalid, or has another format.
        """
        record = self._parsed()
        if record.status == "running" and not is_locked(self.log_file):
            record = self._parsed()  # it may have ended in between
            if record.status == "running":
                record = replace(record, status="interrupted")
        return record

    def being_written(self) -> StoreError:
        """Return the error for a log that another process writes; name the process if the record does."""
        writer = ""
        with suppress(StoreError):
            record = self._parsed()
            if record.status == "running" and record.writer:
                pid, host = (shortened(record.writer.get(key)) for key in ("pid", "host"))
                writer = f": process {pid} on {host}, since {shortened(record.started)}"
        return StoreError(f"{self.log_file} is being written by another gradlab{writer}")

    def logged(self) -> bytes:
        """Return the content of the log, empty if it does not exist.

        Raises:
            StoreError: the log cannot be read or is not a regular file.
        """
        return read_bytes(self.log_file) if self.log_file.is_symlink() or self.log_file.exists() else b""

    def _parsed(self) -> R:
        found: R = parsed_record(self.record_file, self.kind, self.what)
        return found


def now() -> str:
    """Return the current time in the format of records."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def parsed_record(file: Path, kind: type[T], what: str) -> T:
    """Return the record in a file, validated since it may have been edited by hand.

    Args:
        file: the file of the record.
        kind: its dataclass, validated by pydantic. The default of `format` is the supported version. Unknown keys are
            ignored.
        what: the name of the record in messages, such as "a run's record".

    Raises:
        StoreError: the file is missing or invalid, or has another format.
    """
    content, version = read_json(file), kind.format  # type: ignore[attr-defined]  # every record has it
    found = content.get("format") if isinstance(content, dict) else None
    if found != version:
        raise StoreError(f"{file} has format {shortened(repr(found))}; this version of gradlab reads format {version}")
    try:
        record: T = _adapter(kind).validate_python(content)  # type: ignore[arg-type]  # every class is hashable
    except ValidationError as error:
        why = _first_fault(error)
    except (TypeError, KeyError, OverflowError) as error:  # from our own checks
        why = str(error)
    else:
        return record
    raise StoreError(f"{file} is not {what}: {shortened(why, 120)}")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _first_fault(error: ValidationError) -> str:
    """Return the first error of pydantic in one line."""
    fault = error.errors(include_url=False)[0]
    name = ".".join(map(str, fault["loc"]))
    if fault["type"] == "missing":
        return f"{name} is missing"
    return f"{name} is {shortened(repr(fault['input']))}" if name else fault["msg"].removeprefix("Value error, ")
