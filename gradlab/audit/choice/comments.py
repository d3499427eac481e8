"""Comments such as `# gradlab: ignore[never-cleared]` in the user's files and notebook cells."""

from __future__ import annotations

import io
import linecache
import re
import tokenize
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.places import Place

_OURS = re.compile(r"#\s*gradlab:", re.IGNORECASE)
_COMMENT = re.compile(r"#\s*gradlab:\s*ignore\b\s*(?:\[([^\]]*)\])?", re.IGNORECASE)


class IgnoreComment(NamedTuple):
    """A comment that ignores findings of some rules at the lines of its statement, or one that is not understood."""

    line: int  # of the comment
    first: int  # line of its statement
    last: int
    ids: tuple[str, ...]  # as written; empty if the comment names no rule
    understood: bool = True

    def covers(self, place: Place) -> bool:
        """Say whether a line of its file belongs to its statement."""
        return self.first <= place.line <= self.last


def comments_in(file: str) -> tuple[IgnoreComment, ...]:
    """Return the comments of a file or a notebook cell; none if it cannot be read."""
    linecache.checkcache(file)
    return _parsed("".join(linecache.getlines(file)))


@lru_cache(maxsize=64)
def _parsed(text: str) -> tuple[IgnoreComment, ...]:
    return tuple(_comments_of(text)) if _OURS.search(text) else ()


def _comments_of(text: str) -> Iterator[IgnoreComment]:
    """Yield the comments of a source up to its first syntax error.

    A statement is a logical line: for a loop, its head alone.
    """
    first, found = 0, list[tuple[int, str | None]]()
    for token in _tokens(text):
        if token.type == tokenize.COMMENT:
            if _OURS.match(token.string) and not _COMMENT.match(token.string):
                found.append((token.start[0], None))
            found += [(token.start[0], match[1] or "") for match in _COMMENT.finditer(token.string)]
        ends = token.type == tokenize.NEWLINE or (token.type == tokenize.NL and not first)
        if ends:
            for line, ids in found:
                named = tuple(each.strip() for each in (ids or "").split(",") if each.strip())
                yield IgnoreComment(line, first or line, token.start[0], named, ids is not None)
            first, found = 0, []
        elif not first and token.type not in _BETWEEN:
            first = token.start[0]


_BETWEEN = (tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT)


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    try:
        yield from tokenize.generate_tokens(io.StringIO(text).readline)
    except (tokenize.TokenError, SyntaxError):  # such as a file that changed since, or magics in a cell
        return
