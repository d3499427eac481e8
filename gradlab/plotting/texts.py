"""Widths of texts, and texts in lines of a given width."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

BREAKS = ":/_,."  # a word that is too wide is broken after one of these
NO_BREAK = "\N{NO-BREAK SPACE}"
HINTING = 1.04  # text on a screen is up to this much wider than its outlines


@lru_cache(maxsize=4096)
def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Return the width of a text in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(weight=weight)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # a label in another script
        parts = text.replace("$", r"\$").split("\n")  # labels are not formulas
        paths = [TextPath((0, 0), part, size=size, prop=font) for part in parts if part.strip()]
    return HINTING * max((float(path.get_extents().width) for path in paths), default=0.0)


def wrapped(
    words: Iterable[str], size: float, points: float, *, weight: str = "normal", between: str = " "
) -> list[str]:
    """Return the words in lines of at most `points` points; a word that is wider is broken."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]}{between}{word}" if lines else word
        if lines and width_of(longer, size, weight) <= points:
            lines[-1] = longer
        else:
            lines += _pieces(word, size, points, weight)
    return lines


def cut(lines: list[str], most: int) -> list[str]:
    """Return the first lines; an ellipsis marks those left out."""
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    return [*lines[: most - 1], f"{last.rpartition(' ')[0] or last[:-2]} …"]


def _pieces(word: str, size: float, points: float, weight: str) -> list[str]:
    """Return the word in pieces that fit: its parts between no-break spaces, or else each as long as possible."""
    if width_of(word, size, weight) > points and NO_BREAK in word:
        return wrapped(word.split(NO_BREAK), size, points, weight=weight, between=NO_BREAK)
    pieces = []
    while len(word) > 1 and width_of(word, size, weight) > points:
        kept = max(1, min(len(word) - 1, int(len(word) * points / width_of(word, size, weight))))
        while kept > 1 and width_of(word[:kept], size, weight) > points:
            kept -= 1
        after = max(word.rfind(mark, 1, kept) + 1 for mark in BREAKS)  # rather between parts of a name
        kept = after if after > kept / 3 else kept
        pieces.append(word[:kept])
        word = word[kept:]
    return [*pieces, word]
