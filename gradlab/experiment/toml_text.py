"""TOML beyond tomllib: the line of a key, and limits on size and depth."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SIZE = 2**15  # bytes or characters; the largest shipped experiment has 500
MAX_DEPTH = 16  # of dotted keys, lists and tables; an experiment needs four
TOO_LARGE = f"is larger than {MAX_SIZE // 1024} KiB, too large"

# Possessive quantifiers and optional closing quotes: any text is read in one pass.
_TOKEN = re.compile(
    r'''(?P<part>"""(?:[^"\\]|\\.|"(?!""))*+(?:"{3,5})?'''
    r"""|'''(?:[^']|'(?!''))*+(?:'{3,5})?"""
    r"""|"(?:[^"\\\n]|\\[^\n])*+"?|'[^'\n]*+'?|[\w+:-]++)"""
    r"|(?P<blank>[ \t]++|\#[^\n]*+)|(?P<sign>.)",
    re.DOTALL,
)
_PLAIN_HEADER = re.compile(r"\[[\w.-]+\]")


def why_too_large(text: str) -> str:
    """Return in which way a text is too large for an experiment, or "".

    tomllib needs 3 s for a dotted key of 32 KiB and fails on lists nested a few hundred levels deep.
    """
    if len(text) > MAX_SIZE:
        return TOO_LARGE
    dots = depth = 0
    for sign in filter(None, (token["sign"] for token in _TOKEN.finditer(text))):
        dots = dots + 1 if sign == "." else 0
        depth += (sign in "[{") - (sign in "]}")
        if dots >= MAX_DEPTH or depth > MAX_DEPTH:
            return "is nested too deeply"
    return ""


def line_of(text: str, key: tuple[str, ...]) -> int:
    """Return the line, counted from 1, that sets `key`; else that of its innermost table, else 1.

    Args:
        text: valid TOML.
        key: the path of the key: its tables, then its own name.
    """
    statements = [(line, each, _path(each) if each.startswith("[") else ()) for line, each in _statements(text)]
    for depth in range(len(key), 0, -1):
        table: tuple[str, ...] | None = ()
        for line, statement, header in statements:
            if header:
                table = None if statement.startswith("[[") else header  # keys in a list of tables have no path
                if header[:depth] == key[:depth]:
                    return line
            elif table is not None and _sets(statement, table, key[:depth]):
                return line
    return 1


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield the first line and the text of every table header and every key with its value."""
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
    """Return the names in a table's header; it parses as nested tables."""
    if _PLAIN_HEADER.fullmatch(header):  # the usual case; parsing takes twenty times as long
        return tuple(header[1:-1].split("."))
    path: tuple[str, ...] = ()
    found: Any = tomllib.loads(header)
    while isinstance(found, dict) and found:
        ((part, found),) = found.items()
        path = (*path, part)
    return path


def _sets(statement: str, table: tuple[str, ...], key: tuple[str, ...]) -> bool:
    """Return whether a statement of `table` sets the key."""
    if key[-1] not in statement or key[: len(table)] != table or len(key) == len(table):
        return False
    value: Any = tomllib.loads(statement)
    for part in key[len(table) :]:
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True
