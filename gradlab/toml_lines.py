"""In which line of a TOML text a key is given: what an error message points at, and the parser does not tell."""

import tomllib
from typing import Any

_LONGEST_STATEMENT = 100  # lines; a longer one is pointed at by its table


def line_of(text: str, key: tuple[str, ...]) -> int:
    """Return the line, counted from 1, that gives `key`, or else the nearest table around it, or else 1.

    A line gives the key when what stands before it parses without the key, and what ends with its statement with it.
    """
    lines = text.split("\n")
    for depth in range(len(key), 0, -1):
        path = key[:depth]
        for start, line in enumerate(lines):
            if path[-1] in line and _gives(lines[:start], path) is False and _gives_soon(lines, start, path):
                return start + 1
    return 1


def _gives_soon(lines: list[str], start: int, key: tuple[str, ...]) -> bool:
    """Say whether the statement that begins at line `start` gives the key."""
    for end in range(start + 1, min(start + _LONGEST_STATEMENT, len(lines)) + 1):
        if (found := _gives(lines[:end], key)) is not None:
            return found
    return False


def _gives(lines: list[str], key: tuple[str, ...]) -> bool | None:
    """Say whether the lines give the key; None where they end amid a statement."""
    try:
        value: Any = tomllib.loads("\n".join(lines))
    except ValueError:
        return None
    for part in key:
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True
