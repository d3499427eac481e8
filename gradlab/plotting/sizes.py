"""Numbers as `plot` takes them: the ends of an axis, and the size of a figure."""

from __future__ import annotations

import math
import re

from gradlab.errors import PlotError, shortened

SMALLEST, LARGEST = 1.0, 40.0  # inches


def parse_limits(text: str) -> tuple[float | None, float | None]:
    """Return the bottom and top in `A:B`; an end that is left out is None.

    Raises:
        PlotError: the text is something else.
    """
    bottom, colon, top = text.partition(":")
    try:
        ends = tuple(float(end) if end.strip() else None for end in (bottom, top))
    except ValueError:
        ends = ()
    if (
        not colon
        or not ends
        or ends == (None, None)
        or any(end is not None and not math.isfinite(end) for end in ends)
    ):
        raise PlotError(f"--ylim {shortened(text)}: write --ylim BOTTOM:TOP, such as 0:2, 0: or :2")
    return ends[0], ends[1]


def parse_size(text: str) -> tuple[float, float]:
    """Return the width and height in `3.5x2.5`.

    Raises:
        PlotError: the text is something else, or the size is not one of a figure.
    """
    found = re.fullmatch(r"(\d*\.?\d+)\s*[xX×]\s*(\d*\.?\d+)", text.strip())
    if not found:
        raise PlotError(f"--size {shortened(text)}: write --size WIDTHxHEIGHT in inches, such as 3.5x2.5")
    return check_size((float(found[1]), float(found[2])))


def check_size(size: tuple[float, float]) -> tuple[float, float]:
    """Return the size in inches.

    Raises:
        PlotError: it is too small or too large for a figure.
    """
    if not all(SMALLEST <= side <= LARGEST for side in size):
        raise PlotError(f"--size {size[0]:g}x{size[1]:g}: a side is from {SMALLEST:g} to {LARGEST:g} inches")
    return size
