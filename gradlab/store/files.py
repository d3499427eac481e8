"""Files: written whole or not at all, read as UTF-8 or strict JSON, kept from other processes."""

from __future__ import annotations

import json
import math
import os
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

from gradlab.errors import StoreError, shortened

if TYPE_CHECKING:
    from pathlib import Path


def write_bytes(file: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        new = file.with_name(f".{file.name}.{os.getpid()}.new")
    except ValueError:
        raise StoreError(f"{file} cannot be written: that is not the name of a file") from None
    try:
        with new.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        new.replace(file)
    except OSError as error:
        raise unwritable(file, error) from None
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def replace_json(file: Path, content: object) -> None:
    """Replace a file of JSON atomically."""
    write_bytes(file, (strict_json(content, indent=2) + "\n").encode())


def read_text(file: Path) -> str:
    """Return the text of a file.

    Raises:
        StoreError: it cannot be read, or is not UTF-8.
    """
    try:
        return file.read_bytes().decode()
    except OSError as error:
        raise StoreError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise StoreError(f"{file} is not UTF-8 text, from byte {error.start} on") from None


def read_json(file: Path) -> object:
    """Return what a file of JSON holds.

    Raises:
        StoreError: it cannot be read, or is not JSON.
    """
    try:
        return json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{file} is not JSON: {shortened(error, 120)}") from None


def make_folder(folder: Path) -> None:
    """Make a folder and see that it can be written to, before any work is put into what shall stand there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable(folder, error) from None


def lock(handle: int) -> None:
    """Keep other processes from writing the file; the lock goes with the process, however that ends."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return the error of a file or folder that cannot be written."""
    why = "there is no such folder" if isinstance(error, FileNotFoundError) else error.strerror or error
    return StoreError(f"{path} cannot be written: {why}")


def strict_json(value: object, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """Return JSON without the tokens NaN and Infinity: a number that is not finite is "nan", "inf" or "-inf"."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=ascii_only, allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
