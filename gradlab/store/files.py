"""Files: written whole or not at all, read as UTF-8 or strict JSON, never through a link."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from gradlab.errors import StoreError, shortened

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_JSON = 2**24  # bytes: far above any record; to parse as much takes a tenth of a second
# No link is followed, and opening a pipe does not wait for its other end. Windows has none of these, but text files.
_CAREFUL = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)  # of a folder, on file systems that have no such thing


def open_file(file: Path, flags: int) -> int:
    """Return a handle of one of our files, opened with the flags of `os.open`.

    Raises:
        StoreError: a symbolic link, a pipe or the like is in its place; nothing is read or written through it.
        OSError: it cannot be opened.
    """
    try:
        handle = os.open(file, flags | _CAREFUL, 0o666)
    except OSError as error:
        if file.is_symlink():
            raise is_link(file) from None
        if error.errno == errno.ENXIO:  # a pipe that nobody reads, a socket
            raise StoreError(f"{file} is not a regular file") from None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise StoreError(f"{file} is not a regular file")
    return handle


def is_link(file: Path) -> StoreError:
    """Return the error of a symbolic link in place of one of our files."""
    return StoreError(f"{file} is a symbolic link, which is not followed; remove it, or put the file itself there")


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file, whole or not at all, and down to the disk.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        new = file.with_name(f".{file.name}.{os.getpid()}.new")
    except ValueError:
        raise StoreError(f"{file} cannot be written: that is not the name of a file") from None
    drop_leftovers(file)
    try:
        _write_new(new, content)
        new.replace(file)
        sync_folder(file.parent)
    except OSError as error:
        raise unwritable(file, error) from None
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def _write_new(file: Path, content: bytes) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CAREFUL, 0o666)
    try:
        while content:
            content = content[os.write(handle, content) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def drop_leftovers(file: Path) -> None:
    """Remove what writers of the file left beside it that were killed before it was whole."""
    begin, end = f".{file.name}.", ".new"
    with suppress(OSError):
        for name in os.listdir(file.parent):  # noqa: PTH208 - names are all that is needed
            pid = name[len(begin) : -len(end)]
            if name.startswith(begin) and name.endswith(end) and pid.isdecimal() and not _is_running(int(pid)):
                (file.parent / name).unlink()


def _is_running(pid: int) -> bool:
    """Return whether another process of that number may be running."""
    if pid == os.getpid():
        return False
    if os.name != "posix":  # where signal 0 is Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Let the names in a folder reach the disk.

    Raises:
        OSError: they do not.
    """
    if os.name != "posix":  # where a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


def replace_json(file: Path, content: object) -> None:
    """Replace a file of JSON atomically.

    Raises:
        StoreError: it cannot be written, or is a symbolic link.
    """
    if file.is_symlink():
        raise is_link(file)
    write_bytes(file, (strict_json(content, indent=2) + "\n").encode())


def read_bytes(file: Path) -> bytes:
    """Return what one of our files holds.

    Raises:
        StoreError: it cannot be read, or is no regular file.
    """
    try:
        with os.fdopen(open_file(file, os.O_RDONLY), "rb") as stream:
            return stream.read()
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror or error}") from None


def read_json(file: Path) -> object:
    """Return what a file of JSON holds.

    Raises:
        StoreError: it cannot be read, is not JSON, or is larger than any that was written here.
    """
    with suppress(OSError):  # told by whoever reads it
        if file.stat().st_size > LARGEST_JSON:
            raise StoreError(f"{file} is larger than {LARGEST_JSON >> 20} MiB: no file of a run or an experiment")
    try:
        return json.loads(read_bytes(file).decode())
    except UnicodeDecodeError as error:
        raise StoreError(f"{file} is not UTF-8 text, from byte {error.start} on") from None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{file} is not JSON: {shortened(error, 120)}") from None


def modified_at(file: Path) -> float:
    """Return when the file was last written, 0 where it does not exist."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def make_folder(folder: Path) -> None:
    """Make a folder and see that it can be written to, before any work is put into what shall stand there.

    Raises:
        StoreError: it cannot.
    """
    try:
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable(folder, error) from None


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return the error of a file or folder that cannot be written."""
    why = "there is no such folder" if isinstance(error, FileNotFoundError) else error.strerror or error
    return StoreError(f"{shortened(path, 300)} cannot be written: {why}")


def strict_json(value: object, *, indent: int | None = None, ascii_only: bool = False, compact: bool = False) -> str:
    """Return JSON without the tokens NaN and Infinity: a number that is not finite is "nan", "inf" or "-inf"."""
    between = (",", ":") if compact else None
    return json.dumps(_finite(value), indent=indent, ensure_ascii=ascii_only, allow_nan=False, separators=between)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
