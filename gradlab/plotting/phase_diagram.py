"""The phase diagram: where runs converge and where they diverge, and the edge that theory draws between the two."""

from __future__ import annotations

import math
import textwrap
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import modes
from gradlab.analysis import curves, theory
from gradlab.errors import ModeError, PlotError, printable
from gradlab.plotting.figure import DECADES, FAINT, INK, style
from gradlab.plotting.labels import width_of
from gradlab.plotting.lines import Line, look
from gradlab.plotting.panels import DIVERGED, MOST_PANELS, Phase, Profile
from gradlab.rows import HUGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

MANY = 50  # losses, of which a few may stand out
DEPTH = 1e12  # times below the highest loss: what is lower has the colour of the lowest
BEYOND = "#d4d4d4"  # of what diverged, where its loss is above the scale
DENSE, SPARSE = "////", "/"  # more than half of the seeds diverged; some did
EDGE = "lr·λ = 2(1 + keep)"
SMALL = 9.0  # points
FEW = 5  # values of an axis, which are numbered each


def draw_phases(panels: Sequence[Phase] | Sequence[Profile], *, title: str = "", width: int = 1200) -> Figure:
    """Return the figure of these panels, side by side, in one scale of colours or of losses.

    Args:
        panels: as `panels_of` returns them, of one sweep or of several; all maps, or all curves.
        title: above all of them.
        width: pixels, as a PNG.

    Raises:
        PlotError: there is no panel, there are too many or of both kinds, or no run in any.
    """
    maps = [each for each in panels if isinstance(each, Phase)]
    profiles = [each for each in panels if isinstance(each, Profile)]
    if not panels or (maps and profiles):
        raise PlotError("panels must be all maps or all curves, and one at least")
    if len(panels) > MOST_PANELS:
        raise PlotError(f"{len(panels)} panels are too many to read, at most {MOST_PANELS}: draw several pictures")
    if not any(share is not None for each in panels for share in _shares(each)):
        raise PlotError("there is no run to draw yet")
    with style():
        return _draw_maps(maps, title, width) if maps else _draw_profiles(profiles, title, width)


class _Frame(NamedTuple):
    """A figure and where things stand in it."""

    figure: Figure
    axes: list[Axes]
    beside: Axes  # for the colour bar, or names
    narrow: bool
    in_row: int  # panels


def _frame(panels: Sequence[Phase | Profile], title: str, facts: Sequence[str], width: int, right: float) -> _Frame:
    """Return the figure with its title, and axes for each panel in rows; `right` inches are left beside them."""
    from matplotlib.figure import Figure

    dpi = 150 if width >= 900 else 100
    wide = width / dpi
    in_row = _in_row(len(panels), wide)
    rows = -(-len(panels) // in_row)
    titled = any(each.title for each in panels) and len(panels) > 1
    left, gap, below, between = 0.72, 0.22, 0.52, 0.34
    panel = (wide - left - right - gap * (in_row - 1)) / in_row
    tall = min(max(2.1, 1.05 * panel), max(2.3, 0.6 * wide - 1.2))
    lines = _wrapped(facts, 72 * (wide - left - 0.1))
    above = 0.58 + 0.2 * titled + 0.17 * (len(lines) - 1)
    high = above + rows * tall + (rows - 1) * between + below
    figure = Figure(figsize=(wide, high), dpi=dpi)
    axes: list[Axes] = []
    for nth, each in enumerate(panels):
        row, column = divmod(nth, in_row)
        at = (
            (left + column * (panel + gap)) / wide,
            1 - (above + (row + 1) * tall + row * between) / high,
            panel / wide,
            tall / high,
        )
        made = figure.add_axes(at, sharey=axes[0] if axes else None)
        if titled:
            made.set_title(printable(each.title), loc="left", fontsize=10, pad=4, parse_math=False)
        last = nth + in_row >= len(panels)
        made.tick_params(length=3, labelleft=column == 0, labelbottom=last)
        made.set_xlabel(printable(each.x_key) if last else "")
        axes.append(made)
    _head(figure, title or (panels[0].title if len(panels) == 1 else ""), lines, left)
    beside = figure.add_axes(((wide - right + 0.16) / wide, below / high, 0.14 / wide, 1 - (above + below) / high))
    return _Frame(figure, axes, beside, panel < 2.0, in_row)


def _in_row(panels: int, wide: float) -> int:
    """Return how many panels stand side by side: of four two, and no more where the picture is narrow."""
    return min(panels, 2 if panels == 4 or wide < 6 else 3)


def _head(figure: Figure, title: str, facts: Sequence[str], left: float) -> None:
    wide, high = figure.get_size_inches()
    room = int(9.5 * wide)
    points = 72 * (wide - left - 0.1)
    figure.text(
        left / wide, 1 - 0.28 / high, textwrap.shorten(printable(title), room, placeholder=" …") if title else "",
        fontsize=12, fontweight="bold", parse_math=False,
    )  # fmt: skip
    for nth, line in enumerate(facts):
        figure.text(
            left / wide, 1 - (0.48 + 0.17 * nth) / high, line, color=FAINT, parse_math=False,
            fontsize=min(SMALL, SMALL * points / max(1.0, width_of(line or " ", SMALL))),
        )  # fmt: skip


def _wrapped(words: Sequence[str], points: float) -> list[str]:
    """Return the words in lines of so many points."""
    lines = [""]
    for word in words:
        longer = f"{lines[-1]}  ·  {word}" if lines[-1] else word
        if lines[-1] and width_of(longer, SMALL) > points:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


# Maps


def _draw_maps(panels: Sequence[Phase], title: str, width: int) -> Figure:
    import matplotlib as mpl

    scale = _scale(
        (loss for loss, share in _cells(panels) if loss is not None and share is not None and share <= DIVERGED),
        (loss for loss, _ in _cells(panels) if loss is not None),
    )
    frame = _frame(panels, title, _map_facts(panels), width, right=1.0)
    colours = mpl.colormaps["viridis"].with_extremes(over=BEYOND, bad="white")
    for axes, panel in zip(frame.axes, panels, strict=True):
        _set_axis(axes, "x", panel.x)
        _set_axis(axes, "y", panel.y)
        mesh = _draw_map(axes, panel, scale, colours)
    for axes in frame.axes[:: frame.in_row]:
        axes.set_ylabel(printable(panels[0].y_key))
    for axes, panel in zip(frame.axes, panels, strict=True):
        if panel.edges:  # when all limits are set: its name is turned with it
            _draw_edge(axes, panel, narrow=frame.narrow)
    _draw_bar(frame, mesh, panels, scale)
    return frame.figure


class _Scale(NamedTuple):
    """From which loss to which the colours or the axis go."""

    low: float
    high: float
    log: bool


def _scale(settled: Iterable[float], all_: Iterable[float]) -> _Scale:
    """Return the scale of the losses that did not diverge, or of all where none is left."""
    finite = [loss for loss in settled if abs(loss) < HUGE] or [loss for loss in all_ if abs(loss) < HUGE]
    if not finite:
        return _Scale(0.0, 1.0, log=False)
    low, high = min(finite), _top(finite)
    positive = [loss for loss in finite if loss > 0]
    if low >= 0 and positive and high / min(positive) >= 10**DECADES:
        return _Scale(max(min(positive), high / DEPTH), high, log=True)
    if low == high:
        return _Scale(low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2, log=False)
    return _Scale(low, high, log=False)


def _top(losses: Sequence[float]) -> float:
    """Return the highest loss, or where a few stand out tenfold, the highest of the others, lest these look alike."""
    ordered = sorted(losses)
    usual = ordered[int(0.98 * (len(ordered) - 1))]
    return usual if len(ordered) >= MANY and ordered[-1] > 10 * abs(usual) > 0 else ordered[-1]


def _draw_map(axes: Axes, panel: Phase, scale: _Scale, colours: Any) -> QuadMesh:
    """Draw the cells in the colours of their losses, hatched where they diverged."""
    import numpy as np
    from matplotlib.colors import LogNorm, Normalize

    x, y = _borders(panel.x), _borders(panel.y)
    top = scale.high * 10 if scale.log else scale.high + abs(scale.high) + 1
    shown = [
        [_shown(loss, scale, top if share is not None and share > DIVERGED else scale.high) for loss, share in row]
        for row in (zip(*rows, strict=True) for rows in zip(panel.loss, panel.diverged, strict=True))
    ]
    norm = (LogNorm if scale.log else Normalize)(scale.low, scale.high)
    mesh = axes.pcolormesh(
        x, y, np.ma.masked_invalid(np.array(shown, dtype=float)), norm=norm, cmap=colours, rasterized=True, zorder=1
    )
    most = [[share is not None and share > DIVERGED for share in row] for row in panel.diverged]
    some = [[share is not None and 0 < share <= DIVERGED for share in row] for row in panel.diverged]
    for cells, hatch in ((most, DENSE), (some, SPARSE)):
        _hatch(axes, x, y, cells, hatch)
    _outline(axes, x, y, most)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    return mesh


def _shown(loss: float | None, scale: _Scale, top: float) -> float:
    """Return the loss within what colours there are, NaN where there is no run."""
    return math.nan if loss is None else min(max(loss, scale.low), top)


def _hatch(axes: Axes, x: Sequence[float], y: Sequence[float], cells: Sequence[Sequence[bool]], hatch: str) -> None:
    """Hatch the cells as one shape, so that no seam is seen between them."""
    import matplotlib as mpl
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    corners: list[tuple[float, float]] = []
    for up, row in enumerate(cells):
        for right, there in enumerate(row):
            if there:
                (left, end), (low, high) = x[right : right + 2], y[up : up + 2]
                corners += [(left, low), (end, low), (end, high), (left, high), (left, low)]
    if not corners:
        return
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * (len(corners) // 5)
    for colour, thickness in (("white", 2.0), ("#333333", 0.7)):  # to be seen on dark and on light
        with mpl.rc_context({"hatch.linewidth": thickness}):
            axes.add_patch(
                PathPatch(
                    Path(corners, codes), facecolor="none", edgecolor=colour, linewidth=0, hatch=hatch, zorder=2,
                )
            )  # fmt: skip


def _outline(axes: Axes, x: Sequence[float], y: Sequence[float], cells: Sequence[Sequence[bool]]) -> None:
    """Draw the border between the cells and the others."""
    from matplotlib.collections import LineCollection

    lines = []
    for up, row in enumerate(cells):
        for right, (one, next_) in enumerate(pairwise(row), 1):
            if one != next_:
                lines.append([(x[right], y[up]), (x[right], y[up + 1])])
    for up, (lower, upper) in enumerate(pairwise(cells), 1):
        for right, (one, next_) in enumerate(zip(lower, upper, strict=True)):
            if one != next_:
                lines.append([(x[right], y[up]), (x[right + 1], y[up])])
    axes.add_collection(LineCollection(lines, colors=INK, linewidths=0.7, zorder=3), autolim=False)


def _draw_edge(axes: Axes, panel: Phase, *, narrow: bool) -> None:
    """Draw where theory has the edge of stability: its range over the seeds, its median as a line with its name."""
    from matplotlib.patheffects import withStroke

    low, high = axes.get_ylim()
    keeps = [low + (high - low) * nth / 200 for nth in range(201)]
    keeps = [keep for keep in keeps if -1 < keep <= 1]
    if not keeps:
        return
    places = [theory.largest_stable_lr(median(panel.edges), keep) for keep in keeps]
    if len(set(panel.edges)) > 1:
        most, least = ([theory.largest_stable_lr(of(panel.edges), keep) for keep in keeps] for of in (min, max))
        for side in (least, most):
            dots = axes.plot(side, keeps, color="black", linewidth=1.1, linestyle=(0, (1.5, 2)), zorder=4)[0]
            dots.set_path_effects([withStroke(linewidth=2.4, foreground="white")])
    line = axes.plot(places, keeps, color="black", linewidth=1.8, zorder=5, solid_capstyle="butt")[0]
    line.set_path_effects([withStroke(linewidth=3.6, foreground="white")])
    _name_edge(axes, list(zip(places, keeps, strict=True)), 7.5 if narrow else 9.0)


def _name_edge(axes: Axes, line: Sequence[tuple[float, float]], size: float) -> None:
    """Write the formula along the line, on its right where there is room."""
    left, right = axes.get_xlim()
    seen = [point for point in line if left < point[0] < right]
    if len(seen) < 2:
        return
    figure = axes.figure
    points = [(float(x) * 72 / figure.dpi, float(y) * 72 / figure.dpi) for x, y in map(axes.transData.transform, seen)]
    before, after = points[0], points[-1]
    if math.dist(before, after) < width_of(EDGE, size) + size:
        return  # too little of it is seen; what it is stands below the title
    turn = math.degrees(math.atan2(after[1] - before[1], after[0] - before[0]))
    end = float(axes.transAxes.transform((1, 0))[0]) * 72 / figure.dpi
    room = end - max(before[0], after[0])
    away = 2.2 * size if room > 4 * size else size if room > 2.2 * size else -size
    slant = math.radians(turn)
    axes.annotate(
        EDGE, seen[len(seen) // 2], (away * math.sin(slant), -away * math.cos(slant)), textcoords="offset points",
        rotation=turn, rotation_mode="anchor", ha="center", va="center", fontsize=size, color="black", zorder=6,
        bbox={"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
    )  # fmt: skip


def _draw_bar(frame: _Frame, mesh: QuadMesh, panels: Sequence[Phase], scale: _Scale) -> None:
    losses = [loss for loss, _ in _cells(panels) if loss is not None]
    if min(losses) >= HUGE:  # nothing is left that had a colour
        frame.beside.set_axis_off()
        return
    above, below = any(loss > scale.high for loss in losses), any(loss < scale.low for loss in losses)
    extend = {(True, True): "both", (True, False): "max", (False, True): "min", (False, False): "neither"}
    bar = frame.figure.colorbar(mesh, cax=frame.beside, extend=extend[above, below], extendfrac=0.04)
    seeds = max(panel.seeds for panel in panels)
    bar.set_label("last loss" + (f", median of {seeds} seeds" if seeds > 1 else ""))
    bar.ax.tick_params(length=3, labelsize=9)
    bar.outline.set_linewidth(0.5)


def _map_facts(panels: Sequence[Phase]) -> list[str]:
    """Say below the title what signs there are in the picture."""
    shares = [share for _, share in _cells(panels)]
    seeds = max(panel.seeds for panel in panels)
    most, some = (
        any(each is not None and low < each <= high for each in shares) for low, high in ((DIVERGED, 1), (0, DIVERGED))
    )
    words = []
    if most:
        words.append(f"hatched: more than half of {seeds} seeds diverged" if seeds > 1 else "hatched: diverged")
    if some:
        words.append("sparsely: some")
    if edged := [panel for panel in panels if panel.edges]:
        told = dict.fromkeys(f"{median(panel.edges):.3g}" for panel in edged)
        where = "line: " if any(map(_is_seen, edged)) else "beyond the picture: "
        words.append(f"{where}{EDGE}" + (f", λ = {' and '.join(told)}" if len(told) < 3 else ""))
        words += ["dotted: its range over the seeds"] if any(len(set(panel.edges)) > 1 for panel in edged) else []
    if None in shares:
        words.append("white: not run")
    return words


def _is_seen(panel: Phase) -> bool:
    """Say whether the edge of stability runs through the panel."""
    borders = _borders(panel.x)
    keeps = [keep for keep in panel.y if -1 < keep <= 1]
    places = [theory.largest_stable_lr(median(panel.edges), keep) for keep in keeps]
    return bool(places) and min(places) < borders[-1] and max(places) > borders[0]


def _cells(panels: Sequence[Phase]) -> Iterable[tuple[float | None, float | None]]:
    for panel in panels:
        for losses, shares in zip(panel.loss, panel.diverged, strict=True):
            yield from zip(losses, shares, strict=True)


# Curves


def _draw_profiles(panels: Sequence[Profile], title: str, width: int) -> Figure:
    sections = [section for panel in panels for section in panel.sections]
    settled, all_ = [], []
    for section in sections:
        for low, middle, high, share in zip(section.low, section.median, section.high, section.diverged, strict=True):
            if low is not None and middle is not None and high is not None and share is not None:
                settled += ([low, middle] if share <= DIVERGED else []) + ([high] if share == 0 else [])
                all_.append(middle)
    scale = _scale(settled, all_)
    names = list(dict.fromkeys(section.mode for section in sections))
    right = min(0.3 + max(width_of(printable(name), 10.0, "bold") for name in names) / 72, 0.35 * width / 100)
    frame = _frame(panels, title, _profile_facts(panels), width, right=right)
    lines: list[Line] = []
    for name in names:
        lines.append(Line(name, [], curves.Band([], [], [], []), *look(name, names, lines)))
    low, high = _margins(scale)
    for axes, panel in zip(frame.axes, panels, strict=True):
        axes.set_yscale("log" if scale.log else "linear")
        axes.set_ylim(low, high)
        _set_axis(axes, "x", panel.x)
        borders = _borders(panel.x)
        axes.set_xlim(borders[0], borders[-1])
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.8, zorder=0)
        for line in lines:
            _draw_section(axes, panel, line, high, 0.98 - 0.04 * lines.index(line))
    for axes in frame.axes[:: frame.in_row]:
        axes.set_ylabel("last loss")
    frame.beside.set_axis_off()
    for nth, line in enumerate(lines):
        frame.beside.annotate(
            printable(line.name), (0, 1), (0, -8 - 15 * nth), "axes fraction", textcoords="offset points", va="center",
            color=line.colour, fontsize=10, fontweight="bold", annotation_clip=False, parse_math=False,
        )  # fmt: skip
    return frame.figure


def _draw_section(axes: Axes, panel: Profile, line: Line, top: float, crosses: float) -> None:
    """Draw the curve of a mode as far as it did not diverge, crosses at that height where it did, and its edge."""
    section = next((each for each in panel.sections if each.mode == line.name), None)
    if section is None:
        return
    kept = [share is not None and share <= DIVERGED for share in section.diverged]
    middle, low, high = (
        [
            value if here and value is not None and value < HUGE else math.nan
            for value, here in zip(values, kept, strict=True)
        ]
        for values in (section.median, section.low, section.high)
    )
    axes.plot(
        panel.x, middle, color=line.colour, linestyle=line.dash, linewidth=2.0, marker="o", markersize=3.5, zorder=3
    )
    if panel.seeds > 1:
        axes.fill_between(panel.x, low, [min(each, top) for each in high], color=line.colour, alpha=0.15, linewidth=0)
    gone = [x for x, share in zip(panel.x, section.diverged, strict=True) if share is not None and share > DIVERGED]
    axes.plot(gone, [crosses] * len(gone), "x", color=line.colour, markersize=6, transform=axes.get_xaxis_transform())
    keep = _keep(line.name)
    if panel.edges and keep is not None and -1 < keep <= 1:
        edge = theory.largest_stable_lr(median(panel.edges), keep)
        axes.axvline(edge, color=line.colour, linestyle=(0, (2, 2)), linewidth=1.2, zorder=2)


def _keep(mode: str) -> float | None:
    """Return what the mode keeps, where it follows the rule and its edge is that of a mean gradient."""
    try:
        parsed = modes.parse(mode)
    except ModeError:  # a user's own whose file is gone
        return None
    return parsed.keep if parsed.own is None and parsed.mean else None


def _profile_facts(panels: Sequence[Profile]) -> list[str]:
    seeds = max(panel.seeds for panel in panels)
    words = [f"median and range of {seeds} seeds"] if seeds > 1 else []
    if any(share is not None and share > DIVERGED for panel in panels for share in _shares(panel)):
        words.append("×: diverged")
    if sharpness := [median(panel.edges) for panel in panels if panel.edges]:
        words.append(f"dotted upright: {EDGE}, λ = {sharpness[0]:.3g}")
    return words


def _margins(scale: _Scale) -> tuple[float, float]:
    if scale.log:
        return scale.low / 1.5, scale.high * 1.5
    margin = 0.06 * (scale.high - scale.low)
    return (0.0 if 0 <= scale.low < 0.5 * scale.high else scale.low - margin), scale.high + margin


# Axes


def _shares(panel: Phase | Profile) -> Iterable[float | None]:
    rows = panel.diverged if isinstance(panel, Phase) else [section.diverged for section in panel.sections]
    for row in rows:
        yield from row


def is_log(values: Sequence[float]) -> bool:
    """Say whether values are spaced by factors rather than by differences; of two, whether they are far apart."""
    if min(values) <= 0:
        return False
    if len(values) < 3:
        return max(values) >= 20 * min(values)

    def uneven(places: Sequence[float]) -> float:
        gaps = [after - before for before, after in pairwise(places)]
        return max(gaps) / min(gaps)

    return uneven([math.log(each) for each in values]) < uneven(values)


def _borders(values: Sequence[float]) -> list[float]:
    """Return the borders of cells around these values, one more than them: halfway between, in the axis's scale."""
    log = is_log(values)
    places = [math.log(each) for each in values] if log else list(values)
    half = [(before + after) / 2 for before, after in pairwise(places)]
    borders = [2 * places[0] - half[0], *half, 2 * places[-1] - half[-1]]
    return [math.exp(each) for each in borders] if log else borders


def _some_of(values: Sequence[float]) -> list[float]:
    """Return some of the values, evenly spaced, up to the last one where a step of less than twice the least meets it.

    >>> _some_of(range(4)), _some_of(range(33)), _some_of(range(12))
    ([0, 1, 2, 3], [0, 8, 16, 24, 32], [0, 3, 6, 9])
    """
    least = -(-len(values) // FEW)
    meets = (step for step in range(least, 2 * least + 1) if (len(values) - 1) % step == 0)
    return list(values[:: next(meets, least)])


def _set_axis(axes: Axes, which: str, values: Sequence[float]) -> None:
    """Set the scale of an axis; where values are few or within two powers of ten, number some of themselves."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    log = is_log(values)
    (axes.set_xscale if which == "x" else axes.set_yscale)("log" if log else "linear")
    axis.set_minor_formatter(NullFormatter())
    if len(values) <= FEW or (log and values[-1] < 100 * values[0]):
        axis.set_major_locator(FixedLocator(_some_of(values)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
