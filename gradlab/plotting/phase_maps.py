"""Phase maps: a loss or metric over two axes as colour, diverged cells hatched, with the edge of stability."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from gradlab.errors import printable
from gradlab.plotting.colors import words_of
from gradlab.plotting.layout import Layout, lay_out
from gradlab.plotting.panels import DIVERGED, PhaseMap
from gradlab.plotting.rendering import INK, Page, font_scale
from gradlab.plotting.scales import COLOUR_DECADES, DECADES, DEPTH, LossScale, cell_borders, set_value_axis
from gradlab.plotting.stability_edge import EDGE, draw_edge, is_edge_visible
from gradlab.rows import HUGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

FEWEST_ROWS = 5  # with fewer rows or columns, none is left out of the range of colours
NEARLY_EQUAL = 0.1  # of the highest loss: losses with a smaller range
MANY = 50  # losses; with fewer, none counts as an outlier
BEYOND = "#d4d4d4"  # diverged cells with a loss above the scale
DENSE, SPARSE = "////", "/"  # more than half of the seeds diverged; some did


def draw(panels: Sequence[PhaseMap], title: str, page: Page) -> Figure:
    """Return the figure of these maps with a common colour scale."""
    import matplotlib as mpl

    losses = [loss for panel in panels for loss, _ in panel.cells if loss is not None]
    decades = COLOUR_DECADES if panels[0].color.endswith("loss") else DECADES
    scale = scale_of(without_a_row(_settled_cells(panels), decades), losses, decades)
    layout = lay_out(panels, title, _caption(panels), page, right=1.05 * font_scale(page.wide))
    colours = mpl.colormaps["viridis"].with_extremes(over=BEYOND, bad="white")
    for axes, panel in zip(layout.panels, panels, strict=True):
        set_value_axis(axes, "x", panel.x)
        set_value_axis(axes, "y", panel.y)
        mesh = _draw_map(axes, panel, scale, colours)
    layout.label_y(printable(panels[0].y_key))
    for axes, panel in zip(layout.panels, panels, strict=True):
        if is_edge_visible(panel):
            draw_edge(axes, panel)
    _draw_colour_bar(layout, mesh, panels, scale)
    return layout.figure


def _settled_cells(panels: Sequence[PhaseMap]) -> list[tuple[float, float, float]]:
    """Return the x, y and loss of the cells that did not diverge."""
    return [
        (x, y, loss)
        for panel in panels
        for y, losses, shares in zip(panel.y, panel.loss, panel.diverged, strict=True)
        for x, loss, share in zip(panel.x, losses, shares, strict=True)
        if loss is not None and share is not None and share <= DIVERGED and abs(loss) < HUGE
    ]


def without_a_row(cells: Sequence[tuple[float, float, float]], decades: float = DECADES) -> list[float]:
    """Return the losses of these (x, y, loss), without the row or column that alone sets the range of colours.

    That is one without which the others have at most half of the range, on the scale of the colours. If the others are
    nearly equal, it stays, because only its differences can be seen.
    """
    losses = [loss for _, _, loss in cells]
    if not losses:
        return losses
    log = LossScale.of(losses, max(losses), decades).log
    depth = max(losses) / DEPTH if log else 0.0

    def width(some: Sequence[float]) -> float:
        return math.log(max(some) / max(min(some), depth)) if log else max(some) - min(some)

    rests = []
    for which in (0, 1):
        values = {cell[which] for cell in cells}
        if len(values) >= FEWEST_ROWS:
            rests += [[cell[2] for cell in cells if cell[which] != value] for value in values]
    best = min(rests, key=width, default=losses)
    differ = max(best) - min(best) > NEARLY_EQUAL * max(map(abs, best))
    return best if differ and width(best) <= width(losses) / 2 else losses


def scale_of(settled: Iterable[float], losses: Iterable[float], decades: float = DECADES) -> LossScale:
    """Return the scale of the losses that did not diverge, or of all losses if all diverged."""
    finite = [loss for loss in settled if abs(loss) < HUGE] or [loss for loss in losses if abs(loss) < HUGE]
    if not finite:
        return LossScale(0.0, 1.0, log=False)
    scale = LossScale.of(finite, _without_outliers(finite), decades)
    if not scale.log and scale.low == scale.high:
        low, high = scale.low, scale.high
        return LossScale(low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2, log=False)
    return scale


def _without_outliers(losses: Sequence[float]) -> float:
    """Return the highest loss, or the highest without outliers if a few are ten times as high."""
    ordered = sorted(losses)
    usual = ordered[int(0.98 * (len(ordered) - 1))]
    return usual if len(ordered) >= MANY and ordered[-1] > 10 * abs(usual) > 0 else ordered[-1]


def _draw_map(axes: Axes, panel: PhaseMap, scale: LossScale, colours: Any) -> QuadMesh:
    """Draw the cells in the colours of their losses and hatch diverged ones."""
    import numpy as np
    from matplotlib.colors import LogNorm, Normalize

    x, y = cell_borders(panel.x), cell_borders(panel.y)
    over = scale.high * 10 if scale.log else scale.high + abs(scale.high) + 1

    def shown(loss: float | None, share: float | None) -> float:
        """Return the loss limited to the colour scale, NaN without a run."""
        if loss is None:
            return math.nan
        return min(max(loss, scale.low), over if share is not None and share > DIVERGED else scale.high)

    values = [
        [shown(loss, share) for loss, share in zip(losses, shares, strict=True)]
        for losses, shares in zip(panel.loss, panel.diverged, strict=True)
    ]
    norm = (LogNorm if scale.log else Normalize)(scale.low, scale.high)
    mesh = axes.pcolormesh(
        x, y, np.ma.masked_invalid(np.array(values, dtype=float)), norm=norm, cmap=colours, rasterized=True, zorder=1
    )
    most = [[share is not None and share > DIVERGED for share in row] for row in panel.diverged]
    some = [[share is not None and 0 < share <= DIVERGED for share in row] for row in panel.diverged]
    for cells, hatch in ((most, DENSE), (some, SPARSE)):
        _hatch(axes, x, y, cells, hatch)
    _outline(axes, x, y, most)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    return mesh


def _hatch(axes: Axes, x: Sequence[float], y: Sequence[float], cells: Sequence[Sequence[bool]], hatch: str) -> None:
    """Hatch the cells as one shape, so that no seams show."""
    import matplotlib as mpl
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners: list[tuple[float, float]] = []
    for (low, high), row in zip(pairwise(y), cells, strict=True):
        for (left, right), hatched in zip(pairwise(x), row, strict=True):
            if hatched:
                corners += [(left, low), (right, low), (right, high), (left, high), (left, low)]
    if not corners:
        return
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * (len(corners) // 5)
    shape = Path(corners, codes)
    for colour, thickness in (("white", 2.0), ("#333333", 0.7)):  # visible on dark and on light colours
        with mpl.rc_context({"hatch.linewidth": thickness}):
            axes.add_patch(PathPatch(shape, facecolor="none", edgecolor=colour, linewidth=0, hatch=hatch, zorder=2))


def _outline(axes: Axes, x: Sequence[float], y: Sequence[float], cells: Sequence[Sequence[bool]]) -> None:
    """Draw the border between these cells and the others."""
    from matplotlib.collections import LineCollection

    lines = []
    for row, bottom, top in zip(cells, y, y[1:], strict=False):
        lines += [[(x[n], bottom), (x[n], top)] for n, (one, other) in enumerate(pairwise(row), 1) if one != other]
    for height, (lower, upper) in zip(y[1:], pairwise(cells), strict=False):
        sides = zip(pairwise(x), lower, upper, strict=True)
        lines += [[(left, height), (right, height)] for (left, right), one, other in sides if one != other]
    axes.add_collection(LineCollection(lines, colors=INK, linewidths=0.7, zorder=3), autolim=False)


def _draw_colour_bar(layout: Layout, mesh: QuadMesh, panels: Sequence[PhaseMap], scale: LossScale) -> None:
    import matplotlib as mpl

    losses = [loss for panel in panels for loss, _ in panel.cells if loss is not None]
    if min(losses) >= HUGE:  # no cell has a colour
        layout.beside.set_axis_off()
        return
    above, below = any(loss > scale.high for loss in losses), any(loss < scale.low for loss in losses)
    extend = {(True, True): "both", (True, False): "max", (False, True): "min", (False, False): "neither"}
    colours = mesh.cmap
    if any(
        loss > scale.high for _, _, loss in _settled_cells(panels)
    ):  # these have the top colour, not that of `over`
        colours = colours.with_extremes(over=colours(1.0))
    shown = mpl.cm.ScalarMappable(mesh.norm, colours)
    bar = layout.figure.colorbar(shown, cax=layout.beside, extend=extend[above, below], extendfrac=0.04)
    seeds = max(panel.seeds for panel in panels)
    bar.set_label(words_of(panels[0].color) + (f", median of {seeds} seeds" if seeds > 1 else ""))
    bar.ax.tick_params(length=3, labelsize=0.9 * mpl.rcParams["font.size"])
    bar.outline.set_linewidth(0.5)


def _caption(panels: Sequence[PhaseMap]) -> list[str]:
    """Return the caption, which explains hatches, lines and white cells."""
    shares = [share for panel in panels for share in panel.shares]
    known = [share for share in shares if share is not None]
    seeds = max(panel.seeds for panel in panels)
    words = []
    if any(share > DIVERGED for share in known):
        words.append(f"hatched: more than half of {seeds} seeds diverged" if seeds > 1 else "hatched: diverged")
    if any(0 < share <= DIVERGED for share in known):
        words.append("sparse hatching: some diverged")
    if edged := [panel for panel in panels if is_edge_visible(panel)]:
        values = dict.fromkeys(f"{median(panel.sharpness):.3g}" for panel in edged)
        curvature = f", λ = {' and '.join(values)}" if len(values) < 3 else ""
        words.append(f"line: edge of stability {EDGE}{curvature}")
        if any(len(set(panel.sharpness)) > 1 for panel in edged):
            words.append("dotted: range over seeds")
    if None in shares:
        words.append("white: not run")
    return words
