"""Where findings are: paths relative to the repository, and fingerprints that survive shifted lines."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from gradlab.audit.places import notebook_cell
from gradlab.errors import one_line

if TYPE_CHECKING:
    from gradlab.audit.findings import Finding
    from gradlab.audit.formats.result import AuditResult


class Location(NamedTuple):
    """A line of a file, or the whole file, as seen from the repository."""

    path: str  # with forward slashes: relative to the repository, or absolute; of a notebook, "cell In[3]"
    line: int | None = None  # None: the whole file
    file: Path | None = None  # absolute; None for a cell of a notebook, or if unknown
    is_inside: bool = False  # the repository
    uri: str = ""  # relative if inside the repository; "" without a file


class LocatedFinding(NamedTuple):
    """A finding with its locations."""

    finding: Finding
    location: Location  # its first line, or the script
    others: tuple[Location, ...]  # its other lines
    fingerprint: str  # the same after lines were added above


def located(result: AuditResult) -> list[LocatedFinding]:
    """Return the findings with their locations; those without a place are located at the script."""
    root = repository_of(result.folder)
    found, seen = [], Counter[str]()
    for each in result.findings:
        places = [_location(place.file, result.folder, root, place.line) for place in each.places]
        first, *others = places or [script_location(result)]
        of_line = _digest(each.id.encode(), first.path.encode(), _text_of(first))
        found.append(LocatedFinding(each, first, tuple(others), _digest(of_line.encode(), b"%d" % seen[of_line])))
        seen[of_line] += 1
    return found


def script_location(result: AuditResult) -> Location:
    """Return the file of the script, or its name if that is a module elsewhere."""
    script, folder = result.script, result.folder
    if script is None:
        return Location(".")
    module = script.replace(".", "/")
    for file in (script, f"{module}.py", f"{module}/__main__.py"):
        if Path(folder, file).is_file():
            return _location(file, folder, repository_of(folder))
    return Location(one_line(script))


def repository_of(folder: str) -> str:
    """Return the nearest folder from here upwards that has a `.git`, else the folder itself."""
    for each in (Path(folder), *Path(folder).parents):
        with suppress(OSError):
            if folder and (each / ".git").exists():
                return str(each)
    return folder


def _location(file: str, folder: str, root: str, line: int | None = None) -> Location:
    if cell := notebook_cell(file):
        return Location(f"cell {cell}", line)
    path = os.path.normpath(Path(folder, file))
    for each in (path, os.path.realpath(path)):  # a link may lead into the repository
        if root and Path(each).is_relative_to(root):
            inside = Path(each).relative_to(root)
            return Location(one_line(inside.as_posix()), line, Path(path), True, quoted(inside))
    uri = Path(path).as_uri() if Path(path).is_absolute() else quoted(Path(path))
    return Location(one_line(Path(path).as_posix()), line, Path(path), False, uri)


def quoted(path: PurePath) -> str:
    """Return a path as a URI reference; bytes that are not UTF-8 are quoted too.

    >>> quoted(PurePath("my files/train.py"))
    'my%20files/train.py'
    """
    return quote(os.fsencode(path.as_posix()))


def _text_of(location: Location) -> bytes:
    """Return the text of the line, without indentation; empty if it cannot be read."""
    if location.file is None or location.line is None:
        return b""
    try:
        lines = location.file.read_bytes().splitlines()
    except OSError:
        return b""
    return lines[location.line - 1].strip() if 0 < location.line <= len(lines) else b""


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]
