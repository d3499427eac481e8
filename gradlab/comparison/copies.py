"""Copies of a script's folder, one for every run, so that no run reads what another wrote.

Files share their blocks with the original where the file system can do that. Version control, virtual environments,
caches and run folders are left out.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gradlab import store
from gradlab.errors import CompareError, shortened
from gradlab.wording import option

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 2 * 10**9  # bytes
MOST_FILES = 100_000
NAMED = 3  # files that are too large together are named, the largest ones
LEFT_OUT = {
    ".git",
    ".hg",
    ".svn",
    "__pycache__",
    "node_modules",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".tox",
}
_FICLONE = 0x40049409  # the ioctl of Linux that shares the blocks of two files


class _Entry(NamedTuple):
    path: Path  # relative to the folder
    size: int


class Source(NamedTuple):
    """A folder that is copied for every run.

    Attributes:
        folder: the folder.
        out: the folder of all runs, which copies leave out.
        script: the script or package, whose own folders are never left out.
    """

    folder: Path
    out: Path
    script: Path

    def check_size(self, copies: int) -> None:
        """Check that the folder is small enough to be copied, and that the disk has room for all copies at a time.

        Raises:
            CompareError: it has more than 2 GB or too many files, or the disk lacks space.
        """
        entries, name = list(islice(self._files(), MOST_FILES + 1)), shortened(self.folder, 200)
        size = sum(each.size for each in entries)
        if size > LARGEST:
            largest = sorted(entries, key=lambda each: -each.size)[:NAMED]
            named = ", ".join(f"{shortened(each.path)} ({amount(each.size)})" for each in largest)
            raise CompareError(
                f"the folder {name} has {amount(size)}, too much to copy for every run: {named}. "
                f"Move large files out of it, or use {option('in_place')}."
            )
        if len(entries) > MOST_FILES:
            raise CompareError(
                f"the folder {name} has more than {MOST_FILES:,} files, too many to copy for every run. "
                f"Start in a smaller folder, or use {option('in_place')}."
            )
        temporary = tempfile.gettempdir()
        if copies * size > (free := shutil.disk_usage(temporary).free):
            raise CompareError(
                f"{temporary} has {amount(free)} of free space, but copies of the folder {name} need "
                f"{amount(copies * size)}. Set TMPDIR to another folder."
            )

    def copy_to(self, to: Path) -> None:
        """Copy the folder to a new one.

        Raises:
            CompareError: a file cannot be read or written.
        """
        try:
            for inside, names in self._walk():
                (to / inside).mkdir(parents=True)
                for name in names:
                    with suppress(FileNotFoundError):  # deleted in the meantime
                        _copy(self.folder / inside / name, to / inside / name, self.folder)
        except OSError as error:
            raise CompareError(f"the folder {shortened(self.folder, 200)} cannot be copied: {error}") from None

    def links_outside(self) -> list[str]:
        """Return the links in the folder to folders outside in which a run may write, by relative path."""
        root = os.path.realpath(self.folder)
        found = []
        for inside, names in self._walk():
            for name in names:
                link = self.folder / inside / name
                is_inside = Path(os.path.realpath(link)).is_relative_to(root)
                if link.is_symlink() and not is_inside and link.is_dir() and os.access(link, os.W_OK):
                    found.append((inside / name).as_posix())
        return sorted(found)

    def fingerprint(self) -> dict[str, tuple[int, int]]:
        """Return the size and time of change of every file, by relative path."""
        found = {}
        for each in self._files():
            with suppress(OSError):
                status = (self.folder / each.path).lstat()
                found[each.path.as_posix()] = (status.st_size, status.st_mtime_ns)
        return found

    def _files(self) -> Iterator[_Entry]:
        """Yield the files and links that a copy has."""
        for inside, names in self._walk():
            for name in sorted(names):
                with suppress(OSError):
                    status = (self.folder / inside / name).lstat()
                    if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
                        yield _Entry(inside / name, status.st_size if stat.S_ISREG(status.st_mode) else 0)

    def _walk(self) -> Iterator[tuple[Path, list[str]]]:
        """Yield the folders that a copy has, relative, each with the names of its files and links."""
        for place, folders, names in os.walk(self.folder):
            here = Path(place)
            links = [name for name in folders if (here / name).is_symlink()]
            folders[:] = sorted(name for name in folders if name not in links and not self._leaves_out(here / name))
            yield here.relative_to(self.folder), names + links

    def _leaves_out(self, folder: Path) -> bool:
        if self.script.absolute().is_relative_to(folder.absolute()):
            return False
        if folder.name in LEFT_OUT or (folder / "pyvenv.cfg").exists() or (folder / "conda-meta").exists():
            return True
        if folder.absolute() == self.out.absolute():
            return True
        return store.holds_runs(folder) and not any(folder.glob("*.py"))  # the latter: a package with runs in it


def _link_target(link: Path, folder: Path) -> Path:
    """Return the target of a link in a copy: relative within the folder, else absolute."""
    whole = Path(os.path.abspath(link.parent / link.readlink()))  # noqa: PTH100 - resolve() would follow links
    if not whole.is_relative_to(folder.absolute()):
        real, root = Path(os.path.realpath(link)), os.path.realpath(folder)
        if not real.is_relative_to(root):
            return whole
        whole = folder.absolute() / real.relative_to(root)  # by another name of the folder, or through a link outside
    return Path(os.path.relpath(whole, link.parent))


def _copy(source: Path, target: Path, folder: Path) -> None:
    """Copy a file or a link of the folder; leave out pipes, sockets and devices."""
    if source.is_symlink():
        target.symlink_to(_link_target(source, folder))
        return
    if not source.is_file():
        return
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


def amount(size: float) -> str:
    """Return a number of bytes in words.

    >>> amount(2_340_000_000), amount(12_000)
    ('2.3 GB', '12.0 kB')
    """
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.1f} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1000
    return f"{size:.1f} GB"
