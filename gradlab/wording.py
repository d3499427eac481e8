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
