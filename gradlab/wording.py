"""Words that go with numbers."""

from __future__ import annotations


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
