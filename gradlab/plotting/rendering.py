"""Rendering a figure as PNG, SVG or PDF, in one style."""

from __future__ import annotations

import io
import re
import warnings
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.errors import PlotError, shortened
from gradlab.plotting.sizes import check_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from matplotlib.figure import Figure

FORMATS = {".png": "png", ".svg": "svg", ".pdf": "pdf"}
FONT_SIZE = 10.0  # points
WIDTH = 1200  # pixels
MOST_INCHES = 8.0  # of the width of a figure, unless a size is given
FOR_PRINT = 300  # pixels per inch of a given size
INK, FAINT, GRID = "#222222", "#777777", "#e4e4e4"


def check_formats(files: Iterable[Path]) -> None:
    """Raise PlotError for suffixes other than .png, .svg and .pdf."""
    for file in files:
        if file.suffix.lower() not in FORMATS:
            raise PlotError(f"{shortened(file)}: unknown picture format. Use {', '.join(FORMATS)}.")


def rendered(figure: Figure, suffix: str) -> bytes:
    """Return the figure as PNG, SVG or PDF; equal figures give equal bytes."""
    kind = FORMATS[suffix.lower()]
    metadata: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    out = io.BytesIO()
    with style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # a title in another script
        figure.savefig(out, format=kind, metadata=metadata)
    return _in_pixels(figure, out.getvalue()) if kind == "svg" else out.getvalue()


def _in_pixels(figure: Figure, svg: bytes) -> bytes:
    """Return the SVG with the size of the PNG in pixels, in place of its size in points."""
    wide, high = (round(inches * figure.dpi) for inches in figure.get_size_inches())
    pixels = rb'<svg \1width="%d" height="%d"' % (wide, high)
    return re.sub(rb'<svg ([^>]*?)width="[^"]*" height="[^"]*"', pixels, svg, count=1)


def shown_in_notebooks(figure: Figure) -> Figure:
    """Return the figure, which a notebook then shows without pyplot."""
    figure._repr_png_ = partial(rendered, figure, ".png")  # type: ignore[attr-defined]  # IPython looks it up
    return figure


@contextmanager
def style(scale: float = 1.0) -> Iterator[None]:
    """Use gradlab's style, with fonts of this scale, and ignore the user's matplotlibrc."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "svg.hashsalt": "gradlab",
                "font.size": FONT_SIZE * scale,
                "pdf.fonttype": 42,  # TrueType, which publishers ask for
                "ps.fonttype": 42,
                "hatch.linewidth": 0.6,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.edgecolor": FAINT,
                "axes.labelcolor": INK,
                "xtick.color": FAINT,
                "ytick.color": FAINT,
                "xtick.labelcolor": INK,
                "ytick.labelcolor": INK,
                "text.color": INK,
            }
        )
        yield


def font_scale(inches: float) -> float:
    """Return the size of fonts in a figure this wide, as a share of the usual one: smaller in a column of a paper.

    >>> [round(font_scale(inches), 2) for inches in (3.5, 4, 6, 8, 40)]
    [0.81, 0.83, 0.92, 1.0, 1.0]
    """
    return min(1.0, 0.65 + 0.045 * inches)


class Page(NamedTuple):
    """The size of a figure in inches, its resolution, and whether it may grow taller to hold its title."""

    wide: float
    tall: float
    dpi: float
    grows: bool


def page_of(width: int | None = None, size: tuple[float, float] | None = None) -> Page:
    """Return the page of a figure `width` pixels wide, or of this size in inches."""
    if size is None:
        dpi = dots_per_inch(width or WIDTH)
        return Page((width or WIDTH) / dpi, 0.6 * (width or WIDTH) / dpi, dpi, grows=True)
    return Page(*check_size(size), width / size[0] if width else FOR_PRINT, grows=False)


def dots_per_inch(width: int) -> float:
    """Return the resolution for a figure of this width in pixels: of wide ones more than others, and not the fonts."""
    return max(150 if width >= 900 else 100, width / MOST_INCHES)
