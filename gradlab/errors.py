"""Errors that a user can fix.

Their messages have one or two lines: what was asked, what is wrong, what would work. They are raised where the mistake
is known and caught once, by the command line.
"""

import re
import sysconfig
import traceback
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path


class GradlabError(Exception):
    """The base class of everything that a user can fix."""


class ModeError(GradlabError):
    """A word that names no mode, or a number that a mode cannot have."""


class TaskError(GradlabError):
    """A task that does not exist, does not import, or does not return a `Task`."""


class UnfairTaskError(TaskError):
    """A task whose weights or batches differ between two calls with one seed."""


class OptimizerError(GradlabError):
    """An optimizer that torch does not have, or an option that it does not take."""


class ExperimentError(GradlabError):
    """An experiment file, or a value on the command line, that is invalid."""


class ClaimError(GradlabError):
    """A name of no claim about `zero_grad()`."""


class ClusterError(GradlabError):
    """A Dask cluster that cannot be reached, or whose workers cannot train these runs."""


class StoreError(GradlabError):
    """A folder or file of runs that cannot be read or written."""


class DamagedError(StoreError):
    """A file whose content is not what gradlab wrote."""


class PlotError(GradlabError):
    """A picture that cannot be drawn."""


class AuditError(GradlabError):
    """A script that cannot be run under the audit."""


def raise_together(errors: Sequence[GradlabError], kind: type[GradlabError]) -> None:
    """Raise one error as it is, and several as a single error of this kind, a line each."""
    if errors:
        raise errors[0] if len(errors) == 1 else kind("\n".join(map(str, errors)))


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message that `name` is no `kind`, with the nearest known name and all known ones.

    >>> unknown("mode", "hlve_grad", ["zero_grad", "halve_grad"])
    "unknown mode 'hlve_grad'; did you mean 'halve_grad'? Known: zero_grad, halve_grad"
    """
    names = list(known)
    near = nearest(name, names)
    guess = f"; did you mean '{near}'?" if near else "."
    return f"unknown {kind} '{shortened(name)}'{guess} Known: {', '.join(names) or 'none'}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to `name`, ignoring case, or None where none is similar."""
    by_lower = {each.lower(): each for each in known}
    close = get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[close[0]] if close else None


def shortened(text: object, limit: int = 60) -> str:
    """Return `text` on one line of at most `limit` characters, safe to print in a message."""
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(text))
    return line if len(line) <= limit else line[: limit - 1] + "…"


# Control characters except tab and line feed, halves of surrogate pairs, other line ends, and marks of text direction
_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: object) -> str:
    """Return `text` without terminal commands, its lines kept: files come from anywhere."""
    return _COMMANDS.sub("\N{REPLACEMENT CHARACTER}", str(text))


def kind_of(value: object) -> str:
    """Return the type of a value with its article.

    >>> kind_of(3), kind_of("x"), kind_of(None)
    ('an int', 'a str', 'None')
    """
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeio' else 'a'} {name}"


def user_location(error: BaseException) -> str | None:
    """Return `file:line` of the user's own code that raised, or None where none did."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = users_frames(error)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None


def users_traceback(error: BaseException) -> str:
    """Return the traceback of `error` with the frames of the user's own code alone."""
    frames = users_frames(error)
    head = ["Traceback (your code):\n", *traceback.format_list(frames)] if frames else []
    return "".join([*head, *traceback.format_exception_only(error)]).rstrip()


def users_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of `error` outside of installed packages, Python and gradlab."""
    elsewhere = [Path(__file__).parent, *(Path(path) for path in sysconfig.get_paths().values())]
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_file() and not any(Path(frame.filename).is_relative_to(each) for each in elsewhere)
    ]
