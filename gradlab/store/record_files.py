"""What the records of runs and of sweeps have in common: how one is written and read, and who is writing."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from gradlab.errors import ModeError, StoreError, shortened
from gradlab.store.files import read_bytes, read_json, replace_json
from gradlab.store.locks import is_locked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Recorded(Protocol):
    """A record: a frozen dataclass that says how what it is of stands, and who writes that."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def status(self) -> str:
        """Such as running, done, interrupted."""

    @property
    def started(self) -> str:
        """UTC, ISO 8601."""

    @property
    def writer(self) -> dict[str, Any]:
        """While it is running: the process, {"pid", "host"}."""


R = TypeVar("R", bound=Recorded)


def write_record(file: Path, record: Recorded) -> None:
    """Replace a record atomically; while it says "running", with the name of this process.

    Raises:
        StoreError: it cannot be written.
    """
    running = record.status == "running"
    writer = {"pid": os.getpid(), "host": platform.node()} if running else {}
    replace_json(file, asdict(replace(record, writer=writer)))


def now() -> str:
    """Return the time as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def parsed_record(file: Path, kind: type[R], version: int, check: Callable[[R], R], what: str) -> R:
    """Return the record in a file as it stands there.

    Args:
        file: of the record.
        kind: its class.
        version: of the format that is read.
        check: returns the record, or raises what is wrong with it.
        what: it is called where it is none, such as "a run's record".

    Raises:
        StoreError: there is none, or it is not one that this version reads.
    """
    content = read_json(file)
    if not isinstance(content, dict) or content.get("format") != version:
        found = content.get("format") if isinstance(content, dict) else None
        told = f"has format {shortened(repr(found))}; this version of gradlab reads format {version}"
        raise StoreError(f"{file} {told}")
    known = {each.name for each in fields(kind)}
    try:
        return check(kind(**{key: value for key, value in content.items() if key in known}))
    except (TypeError, ValueError, KeyError, OverflowError, ModeError) as error:
        raise StoreError(f"{file} is not {what}: {shortened(error, 120)}") from None


def current_record(read: Callable[[], R], written: Path) -> R:
    """Return a record; one that says "running" while no process writes the file is that of what was interrupted."""
    record = read()
    if record.status == "running" and not is_locked(written):
        record = read()  # it may have ended since
        if record.status == "running":
            record = replace(record, status="interrupted")
    return record


def being_written(file: Path, read: Callable[[], Recorded]) -> StoreError:
    """Return the error of a file that another process writes, with its name where the record has it."""
    writer = ""
    with suppress(StoreError):
        record = read()
        if record.status == "running" and record.writer:
            pid, host = (shortened(record.writer.get(key)) for key in ("pid", "host"))
            writer = f": process {pid} on {host}, since {shortened(record.started)}"
    return StoreError(f"{file} is being written by another gradlab{writer}")


def read_if_there(file: Path) -> bytes:
    """Return what one of our files holds, nothing where it is not there.

    Raises:
        StoreError: it cannot be read, or is no regular file.
    """
    return read_bytes(file) if file.is_symlink() or file.exists() else b""
