"""What the records of runs and of sweeps have in common: how one is written, validated and read, and who writes it."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from gradlab.errors import ModeError, StoreError, shortened
from gradlab.store.files import read_bytes, read_json, replace_json
from gradlab.store.locks import is_locked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Recorded(Protocol):
    """A record: a frozen dataclass, with the status of a run or a sweep and the process that writes it."""

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


T = TypeVar("T")
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


def parsed_record(
    file: Path, kind: type[T], version: int, what: str, check: Callable[[T], T] = lambda record: record
) -> T:
    """Return the record in a file, validated: it may have been edited by hand.

    Args:
        file: of the record.
        kind: its class, a dataclass whose annotations pydantic validates; other keys are ignored.
        version: of the format that is read.
        what: the file is expected to be, such as "a run's record".
        check: returns the record, or raises what is wrong with it beyond its types.

    Raises:
        StoreError: the file does not exist, or is not a record that this version reads.
    """
    content = read_json(file)
    found = content.get("format") if isinstance(content, dict) else None
    if found != version:
        raise StoreError(f"{file} has format {shortened(repr(found))}; this version of gradlab reads format {version}")
    try:
        return check(_adapter(kind).validate_python(content))  # type: ignore[arg-type]  # every class is hashable
    except ValidationError as error:
        why = _first_fault(error)
    except (TypeError, ValueError, KeyError, OverflowError, ModeError) as error:
        why = str(error)
    raise StoreError(f"{file} is not {what}: {shortened(why, 120)}")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _first_fault(error: ValidationError) -> str:
    """Return the first of pydantic's faults in a line."""
    fault = error.errors(include_url=False)[0]
    name = ".".join(map(str, fault["loc"]))
    return f"{name} is missing" if fault["type"] == "missing" else f"{name} is {shortened(repr(fault['input']))}"


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
