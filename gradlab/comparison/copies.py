"""Copies of a script's folder, one for every run, so that no run reads what another wrote.

Files share their blocks with the original where the file system can do that. Version control, virtual environments,
caches and run folders are left out.
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gradlab.errors import CompareError, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 2 * 10**9  # bytes
NAMED = 3  # files that are too large together are named, the largest ones
LEFT_OUT = {".git", ".hg", ".svn", "__pycache__", "node_modules", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".tox"}
_FICLONE = 0x40049409  # the ioctl of Linux that shares the blocks of two files


class _Entry(NamedTuple):
    path: Path  # relative to the folder
    size: int


def check_size(folder: Path) -> None:
    """Check that a folder is small enough to be copied for every run.

    Raises:
        CompareError: it has more than 2 GB, or cannot be read.
    """
    entries = list(_files(folder))
    size = sum(each.size for each in entries)
    if size > LARGEST:
        largest = sorted(entries, key=lambda each: -each.size)[:NAMED]
        named = ", ".join(f"{shortened(each.path)} ({_amount(each.size)})" for each in largest)
        raise CompareError(
            f"the folder {shortened(folder, 200)} has {_amount(size)}, too much to copy for every run: {named}. "
            "Move large files out of it, or use --in-place."
        )


def copy_folder(folder: Path, to: Path) -> None:
    """Copy a folder to a new one.

    Raises:
        CompareError: a file cannot be read or written.
    """
    try:
        to.mkdir(parents=True)
        for each in _files(folder):
            source, target = folder / each.path, to / each.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_symlink():
                target.symlink_to(_link_target(source, folder))
            else:
                _copy_file(source, target)
        for inside in _folders(folder):
            (to / inside).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompareError(f"the folder {shortened(folder, 200)} cannot be copied: {error}") from None


def fingerprint(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the size and time of change of every file of a folder, by relative path."""
    found = {}
    for each in _files(folder):
        with suppress(OSError):
            status = (folder / each.path).lstat()
            found[each.path.as_posix()] = (status.st_size, status.st_mtime_ns)
    return found


def _files(folder: Path) -> Iterator[_Entry]:
    """Yield the files and links of a folder that a copy has."""
    for inside, names in _walk(folder):
        for name in sorted(names):
            path = folder / inside / name
            with suppress(OSError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                    yield _Entry(inside / name, status.st_size if stat.S_ISREG(status.st_mode) else 0)


def _folders(folder: Path) -> Iterator[Path]:
    yield from (inside for inside, _ in _walk(folder))


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield the folders that a copy has, relative, each with the names of its files and links."""
    for place, folders, names in os.walk(folder):
        here = Path(place)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in links and not _is_left_out(here / name))
        yield here.relative_to(folder), names + links


def _is_left_out(folder: Path) -> bool:
    if folder.name in LEFT_OUT or (folder / "pyvenv.cfg").exists() or (folder / "conda-meta").exists():
        return True
    with suppress(OSError):
        runs = [*folder.glob("*/run.json"), *folder.glob("*/*/run.json"), *folder.glob("*/sweep.json")]
        return any(each.with_name("metrics.jsonl").exists() or each.name == "sweep.json" for each in runs)
    return False


def _link_target(link: Path, folder: Path) -> Path:
    """Return the target of a link in a copy: relative within the folder, else absolute."""
    target = Path(os.readlink(link))  # noqa: PTH115 - Path.readlink() is the same
    if target.is_absolute():
        return target
    whole = Path(os.path.normpath(link.parent / target))
    return target if whole.is_relative_to(folder) else whole


def _copy_file(source: Path, target: Path) -> None:
    if not _share_blocks(source, target):
        shutil.copyfile(source, target)
    shutil.copystat(source, target)


def _share_blocks(source: Path, target: Path) -> bool:
    """Make the target share the blocks of the source; return whether the file system can do that."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return False
    with source.open("rb") as old, target.open("wb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            return False
    return True


def _amount(size: float) -> str:
    """Return a number of bytes in words.

    >>> _amount(2_340_000_000), _amount(12_000)
    ('2.3 GB', '12.0 kB')
    """
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.1f} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1000
    return f"{size:.1f} GB"
