"""What the parser of TOML does not tell: whether a text is too much for it, and in which line a key is given."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 2**15  # bytes or characters; the largest experiment that ships has 500
DEEPEST = 16  # parts of a dotted key, and lists and tables within one another; an experiment has four

# Every quantifier is possessive and every string may lack its end: one pass, whatever the text.
_TOKEN = re.compile(
    r'''(?P<part>"""(?:[^"\\]|\\.|"(?!""))*+(?:"{3,5})?'''
    r"""|'''(?:[^']|'(?!''))*+(?:'{3,5})?"""
    r"""|"(?:[^"\\\n]|\\[^\n])*+"?|'[^'\n]*+'?|[\w+:-]++)"""
    r"|(?P<blank>[ \t]++|\#[^\n]*+)|(?P<sign>.)",
    re.DOTALL,
)
_PLAIN_HEADER = re.compile(r"\[[\w.-]+\]")


def excess(text: str | bytes) -> str:
    """Say what of a text is more than any experiment has, or "": tomllib takes a minute over a key of many parts.

    Of bytes their number alone is looked at.
    """
    if len(text) > LARGEST:
        return f"is larger than {LARGEST // 1024} KiB, too large"
    if isinstance(text, bytes):
        return ""
    dots = depth = 0
    for token in _TOKEN.finditer(text):
        sign = token["sign"]
        if sign is None:
            continue
        dots = dots + 1 if sign == "." else 0
        depth += (sign in "[{") - (sign in "]}")
        if dots >= DEEPEST or depth > DEEPEST:
            return "is nested too deeply"
    return ""


def line_of(text: str, key: tuple[str, ...]) -> int:
    """Return the line, counted from 1, that gives `key`, or else the nearest table around it, or else 1.

    Args:
        text: valid TOML.
        key: the names of the tables on the way to the key, and its own.
    """
    statements = [(line, each, _path(each) if each.startswith("[") else ()) for line, each in _statements(text)]
    for depth in range(len(key), 0, -1):
        table: tuple[str, ...] | None = ()
        for line, statement, header in statements:
            if header:
                table = None if statement.startswith("[[") else header  # what stands in a list of tables has no name
                if header[:depth] == key[:depth]:
                    return line
            elif table is not None and _gives(statement, table, key[:depth]):
                return line
    return 1


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each header of a table and each key with its value, with the line in which it begins."""
    line, depth, start, counted = 1, 0, None, 0
    for token in _TOKEN.finditer(text + "\n"):
        sign = token["sign"]
        depth += ((sign in "[{") - (sign in "]}")) if sign else 0
        if sign == "\n" and not depth:
            if start is not None:
                line, counted = line + text.count("\n", counted, start), start
                yield line, text[start : token.start()]
            start = None
        elif start is None and not token["blank"]:
            start = token.start()


def _path(header: str) -> tuple[str, ...]:
    """Return the names of the tables that a header goes through: it parses as one within the other."""
    if _PLAIN_HEADER.fullmatch(header):  # as nearly all are; the parser takes twenty times as long
        return tuple(header[1:-1].split("."))
    path: tuple[str, ...] = ()
    found: Any = tomllib.loads(header)
    while isinstance(found, dict) and found:
        ((part, found),) = found.items()
        path = (*path, part)
    return path


def _gives(statement: str, table: tuple[str, ...], key: tuple[str, ...]) -> bool:
    """Say whether the statement, which stands in `table`, gives the key."""
    if key[-1] not in statement or key[: len(table)] != table or len(key) == len(table):
        return False
    value: Any = tomllib.loads(statement)
    for part in key[len(table) :]:
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True
