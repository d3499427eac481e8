"""Where in the user's own code something happens: the nearest frame that is neither torch's nor any package's."""

from __future__ import annotations

import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from types import FrameType

# A warning is told of the line that called, so many frames up; frames of such a file name are not counted. So what
# torch warns of is told of the script's line, as it is without the audit.
UNCOUNTED = "<gradlab importlib._bootstrap>"

_INSTALLED = tuple({str(Path(path)) for name, path in sysconfig.get_paths().items() if name != "data"})  # the prefix
_OURS = str(Path(__file__).parent.parent)
_audited: set[str] = set()  # files and folders, the user's own wherever they are


class Place(NamedTuple):
    """A line of the user's own code."""

    file: str
    line: int


def user_location() -> Place | None:
    """Return the line of the user's code that is being run, or None where none is on the stack."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - inspect.currentframe() is the same, and slower
    while frame is not None:
        if is_user_code(frame.f_code.co_filename):
            return Place(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


def add_audited(path: str) -> None:
    """Take this file, or all below this folder, for the user's own from now on, though it be installed."""
    _audited.add(path)
    is_user_code.cache_clear()


@lru_cache(maxsize=4096)
def is_user_code(file: str) -> bool:
    """Say whether `file` is the user's own: not Python's, not installed but for what is audited, not ours.

    A notebook's cell is.

    >>> is_user_code(__file__), is_user_code("<frozen runpy>"), is_user_code("<ipython-input-3>")
    (False, False, True)
    """
    if file.startswith("<"):
        return file.startswith("<ipython-input")
    if is_ours(file):
        return False
    if any(Path(file).is_relative_to(each) for each in _audited):
        return True
    if "site-packages" in file or "dist-packages" in file:
        return False
    return not any(Path(file).is_relative_to(each) for each in _INSTALLED)


def is_ours(file: str) -> bool:
    """Say whether `file` is a part of gradlab, or what it puts around torch's functions."""
    return file.startswith((_OURS + "/", _OURS + "\\", UNCOUNTED))
