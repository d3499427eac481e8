"""Places in the user's code: the nearest stack frame outside torch, gradlab and installed packages."""

from __future__ import annotations

import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gradlab.errors import TIMED, place_in_cell
from gradlab.errors import notebook_cell as notebook_cell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from torch.optim import Optimizer

# `warnings.warn(stacklevel=...)` does not count frames with this file name. So a warning of torch still names the
# script's line.
UNCOUNTED = "<gradlab importlib._bootstrap>"

_INSTALLED = tuple({str(Path(path)) for name, path in sysconfig.get_paths().items() if name != "data"})  # a prefix
_OURS = str(Path(__file__).parent.parent)
_audited: set[str] = set()  # files and folders that count as the user's code, even if installed


class Place(NamedTuple):
    """A line of the user's code."""

    file: str
    line: int


def _frames() -> Iterator[FrameType]:
    """Yield the frames of the call stack, innermost first."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - inspect.currentframe() does the same, but slower
    while frame is not None:
        yield frame
        frame = frame.f_back


def user_location() -> Place | None:
    """Return the running line of the user's code, or None if none is on the stack."""
    for frame in _frames():
        if place := _place(frame, frame.f_lineno):
            return place
    return None


def user_function() -> Place | None:
    """Return the first line of the function of the user's code that is running, or None if none is on the stack."""
    for frame in _frames():
        if place := _place(frame, frame.f_code.co_firstlineno):
            return place
    return None


def _place(frame: FrameType, line: int) -> Place | None:
    """Return this line of the frame's file if that is the user's code."""
    code = frame.f_code
    if not is_user_code(code.co_filename):
        return None
    if code.co_filename != TIMED:
        return Place(code.co_filename, line)
    place = place_in_cell(code.co_filename, line, code.co_name)
    return Place(*place) if place else None


def is_asked_by_user(between: tuple[str, ...]) -> bool:
    """Say whether the user's code called us directly, or only through our files and files that end in `between`."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as in _frames(), which is slower
    while frame is not None:
        file = frame.f_code.co_filename
        if not _is_passed_over(file, between):
            return is_user_code(file)
        frame = frame.f_back
    return False


@lru_cache(maxsize=4096)
def _is_passed_over(file: str, between: tuple[str, ...]) -> bool:
    return is_ours(file) or file.endswith(between)


def steps_under_way(optimizer: Optimizer | None) -> int:
    """Return how many calls of this optimizer's step (torch's wrapper of it) are on the stack."""
    return sum(frame.f_locals.get("self") is optimizer for frame in _step_frames())


def is_nested_step() -> bool:
    """Say whether the running step was called by another optimizer's step."""
    return sum(1 for _ in _step_frames()) > 1


def _step_frames() -> Iterator[FrameType]:
    """Yield the frames of torch's wrapper around an optimizer's step, innermost first."""
    for frame in _frames():
        if frame.f_code.co_name == "wrapper" and frame.f_code.co_filename.endswith("optimizer.py"):
            yield frame


def passes_under_way() -> int:
    """Return how many recorded backward passes are on the stack of this thread."""
    return sum(frame.f_code.co_filename == UNCOUNTED and "backward" in frame.f_code.co_freevars for frame in _frames())


def add_audited(path: str) -> None:
    """Count this file, or everything in this folder, as the user's code from now on, even if installed."""
    _audited.add(path)
    is_user_code.cache_clear()


@lru_cache(maxsize=4096)
def is_user_code(file: str) -> bool:
    """Say whether `file` is the user's code: not Python's, not gradlab's, and not installed unless it is audited.

    Cells of a notebook count as the user's code.

    >>> is_user_code(__file__), is_user_code("<frozen runpy>"), is_user_code("<ipython-input-3>")
    (False, False, True)
    """
    if file.startswith("<"):
        return file.startswith(("<ipython-input", TIMED))
    if is_ours(file):
        return False
    if any(Path(file).is_relative_to(each) for each in _audited):
        return True
    if "site-packages" in file or "dist-packages" in file:
        return False
    return not any(Path(file).is_relative_to(each) for each in _INSTALLED)


def is_ours(file: str) -> bool:
    """Say whether `file` belongs to gradlab, including its wrappers around torch's functions."""
    return file.startswith((_OURS + "/", _OURS + "\\", UNCOUNTED))
