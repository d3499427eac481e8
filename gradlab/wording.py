"""Words that go with numbers, and options as the caller writes them."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_from_python = ContextVar("_from_python", default=False)


@contextmanager
def words_of_python() -> Iterator[None]:
    """Let messages name arguments of Python instead of options of the command line, until the end of the context."""
    token = _from_python.set(True)
    try:
        yield
    finally:
        _from_python.reset(token)


def either(on_command_line: str, in_python: str) -> str:
    """Return the words for the caller: the first on the command line, the second within `words_of_python`."""
    return in_python if _from_python.get() else on_command_line


def option(name: str, value: object = True) -> str:
    """Return an option as the caller writes it.

    >>> option("max_steps", 3), option("in_place")
    ('--max-steps 3', '--in-place')
    """
    flag = f"--{name.replace('_', '-')}"
    return either(flag if value is True else f"{flag} {value}", f"{name}={value!r}")


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural unless the count is 1.

    >>> counted(1, "run"), counted(8712, "run"), counted(0, "claim")
    ('1 run', '8,712 runs', '0 claims')
    """
    return f"{count:,} {plural(noun, count)}"


def plural(noun: str, count: int) -> str:
    """Return the noun in the number that fits a count.

    >>> plural("time", 2), plural("pass", 2), plural("pass", 1)
    ('times', 'passes', 'pass')
    """
    ending = "es" if noun.endswith("s") else "s"
    return noun if count == 1 else noun + ending


def reused(cached: int, runs: int) -> str:
    """Return the message that finished runs were not retrained."""
    return f"Reusing {cached:,} of {counted(runs, 'finished run')} (--fresh retrains)."


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(0.4), duration(42.3), duration(600), duration(9000)
    ('0.4 s', '42 s', '10 min', '2.5 h')
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
