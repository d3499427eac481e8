"""Files: written atomically, read as bytes or strict JSON, never through a symbolic link."""

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

LARGEST_JSON = 2**24  # bytes: far more than any record, and parsed within a tenth of a second
# Follow no link, and do not wait for the other end of a pipe. Windows has only O_BINARY.
_CAREFUL = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
PAGE_MARK = '<meta name="generator" content="gradlab">'  # in the head of every page: gradlab may overwrite it
_HEAD = 4096  # bytes of a page that hold the mark
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP)  # from fsync of a folder on file systems that do not support it


def open_file(file: Path, flags: int) -> int:
    """Open a regular file with the flags of `os.open` and return its handle.

    Raises:
        StoreError: it is a symbolic link, a pipe or another special file; nothing is read or written.
        OSError: the file cannot be opened.
    """
    try:
        handle = os.open(file, flags | _CAREFUL, 0o666)
    except OSError as error:
        if file.is_symlink():
            raise is_link(file) from None
        if error.errno == errno.ENXIO:  # a pipe without a reader, or a socket
            raise StoreError(f"{file} is not a regular file") from None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise StoreError(f"{file} is not a regular file")
    return handle


def is_link(file: Path) -> StoreError:
    """Return the error for a symbolic link in place of a file."""
    return StoreError(f"{file} is a symbolic link, which gradlab does not follow; replace it with a regular file")


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file atomically and sync it to the disk.

    Raises:
        StoreError: the file cannot be written.
    """
    try:
        new = file.with_name(f".{file.name}.{os.getpid()}.new")
    except ValueError:
        raise StoreError(f"{file} cannot be written: not a valid file name") from None
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


def write_page(file: Path, page: str) -> None:
    """Write a page with `PAGE_MARK` in its head. Only a page of gradlab is overwritten.

    Raises:
        StoreError: a file that gradlab did not write has this name, or the file cannot be written.
    """
    assert PAGE_MARK.encode() in page.encode()[:_HEAD], "a page has the mark in its head"
    try:
        with os.fdopen(open_file(file, os.O_RDONLY), "rb") as stream:
            is_ours = PAGE_MARK.encode() in stream.read(_HEAD)
    except FileNotFoundError:
        is_ours = True  # nothing is overwritten
    except OSError as error:
        raise unwritable(file, error) from None
    if not is_ours:
        raise StoreError(f"{file} exists and is not a page that gradlab wrote; choose another name, or delete it")
    write_bytes(file, page.encode())


def _write_new(file: Path, content: bytes) -> None:
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CAREFUL, 0o666)
    try:
        while content:
            content = content[os.write(handle, content) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def drop_leftovers(file: Path) -> None:
    """Remove temporary files that killed writers of this file left next to it."""
    begin, end = f".{file.name}.", ".new"
    with suppress(OSError):
        for name in os.listdir(file.parent):  # noqa: PTH208 - only names are needed
            pid = name[len(begin) : -len(end)]
            if name.startswith(begin) and name.endswith(end) and pid.isdecimal() and not _is_running(int(pid)):
                (file.parent / name).unlink()


def _is_running(pid: int) -> bool:
    """Return whether another process with this id may be running."""
    if pid == os.getpid():
        return False
    if os.name != "posix":  # on Windows, signal 0 is Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Sync the entries of a folder to the disk.

    Raises:
        OSError: the disk reports an error.
    """
    if os.name != "posix":  # Windows cannot open a folder
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
    """Replace a JSON file atomically.

    Raises:
        StoreError: the file cannot be written, or is a symbolic link.
    """
    if file.is_symlink():
        raise is_link(file)
    write_bytes(file, (strict_json(content, indent=2) + "\n").encode())


def read_bytes(file: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        StoreError: the file cannot be read or is not a regular file.
    """
    try:
        with os.fdopen(open_file(file, os.O_RDONLY), "rb") as stream:
            return stream.read()
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror or error}") from None


def read_json(file: Path) -> object:
    """Return the content of a JSON file.

    Raises:
        StoreError: the file cannot be read, is not JSON, or is larger than any file that gradlab writes.
    """
    with suppress(OSError):  # reading the file reports the error
        if file.stat().st_size > LARGEST_JSON:
            raise StoreError(f"{file} is larger than {LARGEST_JSON >> 20} MiB: gradlab did not write it")
    try:
        return json.loads(read_bytes(file).decode())
    except UnicodeDecodeError as error:
        raise StoreError(f"{file} is not UTF-8 text: byte {error.start} is invalid") from None
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{file} is not JSON: {shortened(error, 120)}") from None


def modified_at(file: Path) -> float:
    """Return the modification time of the file, 0 if it does not exist."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def make_folder(folder: Path) -> None:
    """Create a folder if necessary and check that it is writable, before any work starts.

    Raises:
        StoreError: the folder cannot be created or written to.
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
    """Return the error for a file or folder that cannot be written."""
    why = "no such folder" if isinstance(error, FileNotFoundError) else error.strerror or error
    return StoreError(f"{shortened(path, 300)} cannot be written: {why}")


def strict_json(value: object, *, indent: int | None = None, ascii_only: bool = False, compact: bool = False) -> str:
    """Return strict JSON: non-finite numbers become the strings "nan", "inf" and "-inf"."""
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
