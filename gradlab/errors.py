"""Errors that a user can fix, and exit statuses.

Their messages have one or two lines: what was asked, what is wrong, what would work. The command line turns them into
an exit status. `gradlab.run` and the other functions raise them.
"""

import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

# Exit statuses of all commands
DONE, FAILED, AT_FAULT, NO_RESULT = 0, 1, 2, 3  # NO_RESULT: nothing was audited or compared
INTERRUPTED, PIPE_CLOSED = 130, 141


class GradlabError(Exception):
    """Base class of all errors that a user can fix."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows instead of a traceback through gradlab's files."""
        return shown_in_notebook(self)


class ModeError(GradlabError):
    """An unknown mode, or an invalid number in one."""


class TaskError(GradlabError):
    """A task that does not exist, cannot be imported, or does not return a `Task`."""


class UnfairTaskError(TaskError):
    """A task whose weights or batches differ between two calls with one seed."""


class OptimizerError(GradlabError):
    """An unknown optimizer, or an invalid option of one."""


class ExperimentError(GradlabError):
    """An invalid experiment file, or an invalid value on the command line or from Python."""


class ClaimError(GradlabError):
    """An unknown claim about `zero_grad()`."""


class ClusterError(GradlabError):
    """A Dask cluster that is unreachable or cannot train these runs."""


class StoreError(GradlabError):
    """A folder or file of runs that cannot be read or written."""


class DamagedError(StoreError):
    """A file whose content gradlab did not write."""


class PlotError(GradlabError):
    """A picture that cannot be drawn."""


class CheckError(GradlabError):
    """A run that failed, or an expectation that does not hold, found by `result.check()`."""


class UnknownRunError(GradlabError, KeyError):
    """A mode or seed that a result does not have."""

    __str__ = Exception.__str__  # KeyError would show quotes around the message


class CompareError(GradlabError):
    """A script that cannot be compared under several modes."""


class NothingComparedError(GradlabError):
    """A script that exited with 0, and whose optimizers took no step."""


class AuditError(GradlabError):
    """A script that the audit cannot run, or an invalid choice of its rules."""


def raise_together(errors: Sequence[GradlabError], kind: type[GradlabError]) -> None:
    """Raise a single error unchanged, and several as one error of this kind with a line for each."""
    if errors:
        raise errors[0] if len(errors) == 1 else kind("\n".join(map(str, errors)))


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name: the nearest known name, and all known names.

    >>> unknown("mode", "hlve_grad", ["zero_grad", "halve_grad"])
    "unknown mode 'hlve_grad'; did you mean 'halve_grad'? Known: zero_grad, halve_grad"
    """
    names = list(known)
    near = nearest(name, names)
    guess = f"; did you mean '{near}'?" if near else "."
    return f"unknown {kind} '{shortened(name)}'{guess} Known: {', '.join(names) or 'none'}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to `name`, ignoring case, or None if none is similar."""
    by_lower = {each.lower(): each for each in known}
    close = get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[close[0]] if close else None


def shortened(text: object, limit: int = 60) -> str:
    """Return `text` on one line of at most `limit` printable characters."""
    line = one_line(text)
    return line if len(line) <= limit else line[: limit - 1] + "…"


# Control characters except tab and line feed, lone surrogates, other line ends, and marks of text direction
_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: object) -> str:
    """Return `text` without terminal commands. Line breaks stay."""
    return _COMMANDS.sub("\N{REPLACEMENT CHARACTER}", str(text))


def one_line(text: object) -> str:
    """Return `text` with every character that is not printable replaced, line breaks included."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(text))


def kind_of(value: object) -> str:
    """Return the type of a value with its article.

    >>> kind_of(3), kind_of("x"), kind_of(None)
    ('an int', 'a str', 'None')
    """
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"


def notebook_cell(file: str) -> str | None:
    """Return the cell of a notebook that IPython compiled under this file name, such as "In[3]"; None for a file.

    >>> notebook_cell("<ipython-input-3-5f2d0c>"), notebook_cell("train.py")
    ('In[3]', None)
    """
    if number := re.match(r"<ipython-input-(\d+)", file):
        return f"In[{number[1]}]"
    try:  # ipykernel writes a temporary path, and IPython knows its cell
        cell = sys.modules["IPython"].get_ipython().compile.format_code_name(file)
    except (KeyError, AttributeError):
        return None
    return str(cell[1]) if cell else None


TIMED = "<timed exec>"  # the name under which IPython compiles statements after %%time or %time


def place_in_cell(file: str, line: int, function: str) -> tuple[str, int] | None:
    """Return the file and line of a frame; for a cell under %%time, a name that `notebook_cell` knows and its line.

    Return None for a statement after %time, since the frame around it has its place. Code under %%time does not know
    its cell, so the newest cell with this magic counts.
    """
    if file != TIMED:
        return file, line
    cells = _cells()
    number = _timed_cell(cells)
    if number is None or (function == "<module>" and number < len(cells) - 1):
        return None
    return f"<ipython-input-{number}-timed>", line + 1  # after the line of the magic


def _timed_cell(cells: Sequence[str]) -> int | None:
    """Return the number of the newest cell that begins with %%time."""
    return next((nth for nth in reversed(range(len(cells))) if cells[nth].lstrip().startswith("%%time")), None)


def _cells() -> list[str]:
    """Return the cells of the notebook as typed, by their number."""
    try:
        return list(sys.modules["IPython"].get_ipython().history_manager.input_hist_raw)
    except (KeyError, AttributeError):
        return []


def user_location(error: BaseException) -> str | None:
    """Return `file:line` of the user's code that raised, or None if it did not."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = users_frames(error)
    if not frames:
        return None
    cell = notebook_cell(frames[-1].filename)
    return f"cell {cell}, line {frames[-1].lineno}" if cell else f"{frames[-1].filename}:{frames[-1].lineno}"


def reason_of(error: Exception) -> str:
    """Return the message of an error in a line, and on the next line where the user's code raised it, if it did."""
    where = f"\n{place}" if (place := user_location(error)) else ""
    return f"{shortened(str(error) or repr(error), 200)}{where}"


def users_traceback(error: BaseException) -> str:
    """Return the traceback of `error` with only the frames of the user's code."""
    frames = users_frames(error)
    head = ["Traceback (your code):\n", *map(_frame_text, frames)] if frames else []
    return "".join([*head, *traceback.format_exception_only(error)]).rstrip()


def shown_in_notebook(error: BaseException) -> list[str]:
    """Return the lines that a notebook shows for an error: its message, and the line of the user's code.

    IPython gets them from the error's method `_render_traceback_`.
    """
    where = user_location(error)
    return [f"{type(error).__name__}: {printable(error)}", *([f"at {where}"] if where else [])]


def _frame_text(frame: traceback.FrameSummary) -> str:
    """Return a frame as Python's traceback shows it, in a notebook with its cell instead of a temporary file."""
    (text,) = traceback.format_list([frame])
    cell = notebook_cell(frame.filename)
    return text.replace(f'File "{frame.filename}"', f"Cell {cell}", 1) if cell else text


def _frames_of(error: BaseException) -> Iterator[traceback.FrameSummary]:
    """Yield the frames of an error; those of a cell under %%time with their line and text in the cell."""
    for frame in traceback.extract_tb(error.__traceback__):
        place = place_in_cell(frame.filename, frame.lineno or 0, frame.name)
        if place == (frame.filename, frame.lineno or 0):
            yield frame
        elif place is not None:
            cells = _cells()
            text = cells[_timed_cell(cells) or 0].lstrip().splitlines()[place[1] - 1 :][:1]
            yield traceback.FrameSummary(*place, frame.name, lookup_line=False, line="".join(text))


def users_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of `error` outside of installed packages, Python and gradlab, notebook cells included."""
    return [
        frame
        for frame in _frames_of(error)
        if notebook_cell(frame.filename) or (Path(frame.filename).is_file() and is_users_file(frame.filename))
    ]


# The package, and where Python and packages are installed; "data" is a prefix of all these
_NOT_THE_USERS = {
    str(Path(__file__).parent),
    *(path for name, path in sysconfig.get_paths().items() if name != "data"),
}


@lru_cache(maxsize=4096)
def is_users_file(file: str) -> bool:
    """Say whether a path is that of the user's code: not Python's, not installed and not gradlab's.

    >>> is_users_file(__file__), is_users_file(re.__file__), is_users_file("train.py")
    (False, False, True)
    """
    if "site-packages" in file or "dist-packages" in file:
        return False
    return not any(Path(file).is_relative_to(each) for each in _NOT_THE_USERS)
