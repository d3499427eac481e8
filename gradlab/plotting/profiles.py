"""Profiles: a loss or metric over one axis, one curve per mode, with crosses for diverged runs and the edge."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

from gradlab.analysis import curves, theory
from gradlab.plotting.colors import words_of
from gradlab.plotting.labels import GAP, LABEL_SIZE, LARGEST_SHARE, LINE, SAMPLE, SPACE, draw_sample, name_lines
from gradlab.plotting.layout import Layout, lay_out
from gradlab.plotting.lines import Line, colour_and_dash
from gradlab.plotting.panels import DIVERGED, Profile, ProfileCurve
from gradlab.plotting.phase_maps import scale_of
from gradlab.plotting.rendering import GRID, Page, font_scale
from gradlab.plotting.scales import LossScale, cell_borders, set_value_axis
from gradlab.plotting.stability_edge import EDGE
from gradlab.plotting.texts import width_of
from gradlab.rows import HUGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(panels: Sequence[Profile], title: str, page: Page) -> Figure:
    """Return the figure of these profiles with a common loss scale."""
    scale = _scale(panels)
    names = list(dict.fromkeys(curve.mode for panel in panels for curve in panel.curves))
    labels, right = _fit_labels(names, page.wide)
    layout = lay_out(panels, title, _caption(panels), page, right=right)
    lines: list[Line] = []
    for name in names:
        lines.append(Line(name, [], curves.Band([], [], [], []), *colour_and_dash(name, names, lines)))
    for axes, panel in zip(layout.panels, panels, strict=True):
        axes.set_yscale("log" if scale.log else "linear")
        axes.set_ylim(*scale.limits())
        set_value_axis(axes, "x", panel.x)
        borders = cell_borders(panel.x)
        axes.set_xlim(borders[0], borders[-1])
        axes.grid(axis="y", color=GRID, linewidth=0.8, zorder=0)
        for nth, line in enumerate(lines):
            _draw_curve(axes, panel, line, crosses=0.98 - 0.04 * nth)
    layout.label_y(words_of(panels[0].color))
    layout.beside.set_axis_off()
    _write_labels(layout, lines, labels, LABEL_SIZE * font_scale(page.wide))
    return layout.figure


def _fit_labels(names: Sequence[str], wide: float) -> tuple[list[str], float]:
    """Return the names in lines that fit a figure `wide` inches wide, and the inches beside its panels."""
    scale = font_scale(wide)
    size, sample = LABEL_SIZE * scale, scale * (SPACE + SAMPLE + GAP)
    most = LARGEST_SHARE * 72 * wide - sample
    labels = ["\n".join(name_lines(name, size, most)) for name in names]
    return labels, (sample + 12 + max(width_of(label, size, "bold") for label in labels)) / 72


def _write_labels(layout: Layout, lines: Sequence[Line], labels: Sequence[str], size: float) -> None:
    """Write the names below each other, each after a piece of its line; they shrink if there are too many."""
    box, figure = layout.beside.get_position(), layout.figure
    width, height = box.width * figure.get_figwidth() * 72, box.height * figure.get_figheight() * 72  # points
    needed = sum(size * LINE * (1 + label.count("\n")) for label in labels)
    size *= min(1.0, height / needed)
    sample = SAMPLE * size / LABEL_SIZE
    top = height
    for line, label in zip(lines, labels, strict=True):
        space = size * LINE * (1 + label.count("\n"))
        at = (top - space / 2) / height
        top -= space
        draw_sample(layout.beside, (0, sample / width), at, line, linewidth=2.0 * size / LABEL_SIZE)
        layout.beside.annotate(
            label, ((sample + GAP) / width, at), xycoords="axes fraction", va="center", color=line.colour,
            fontsize=size, fontweight="bold", annotation_clip=False, parse_math=False,
        )  # fmt: skip


def _scale(panels: Sequence[Profile]) -> LossScale:
    settled, medians = [], []
    for curve in (each for panel in panels for each in panel.curves):
        for low, middle, high, share in zip(curve.low, curve.median, curve.high, curve.diverged, strict=True):
            if low is not None and middle is not None and high is not None and share is not None:
                settled += ([low, middle] if share <= DIVERGED else []) + ([high] if share == 0 else [])
                medians.append(middle)
    return scale_of(settled, medians)


def _draw_curve(axes: Axes, panel: Profile, line: Line, *, crosses: float) -> None:
    """Draw the curve of a mode, crosses at height `crosses` where it diverged, and its edge of stability."""
    curve = next((each for each in panel.curves if each.mode == line.name), None)
    if curve is None:
        return
    settled = [share is not None and share <= DIVERGED for share in curve.diverged]
    middle, low, high = (
        [
            value if drawn and value is not None and value < HUGE else math.nan
            for value, drawn in zip(values, settled, strict=True)
        ]
        for values in (curve.median, curve.low, curve.high)
    )
    axes.plot(
        panel.x, middle, color=line.colour, linestyle=line.dash, linewidth=2.0, marker="o", markersize=3.5, zorder=3
    )
    if panel.seeds > 1:
        top = axes.get_ylim()[1]
        axes.fill_between(panel.x, low, [min(each, top) for each in high], color=line.colour, alpha=0.15, linewidth=0)
    gone = [x for x, share in zip(panel.x, curve.diverged, strict=True) if share is not None and share > DIVERGED]
    axes.plot(gone, [crosses] * len(gone), "x", color=line.colour, markersize=6, transform=axes.get_xaxis_transform())
    if edge := _edge(panel, curve):
        axes.axvline(edge, color=line.colour, linestyle=(0, (2, 2)), linewidth=1.2, zorder=2)


def _edge(panel: Profile, curve: ProfileCurve) -> float | None:
    """Return the curve's edge of stability if it is known and within the panel."""
    if not panel.sharpness or curve.keep is None or not -1 < curve.keep <= 1:
        return None
    edge, borders = theory.largest_stable_lr(median(panel.sharpness), curve.keep), cell_borders(panel.x)
    return edge if borders[0] < edge < borders[-1] else None


def _caption(panels: Sequence[Profile]) -> list[str]:
    """Return the caption, which explains band, crosses and dotted lines."""
    seeds = max(panel.seeds for panel in panels)
    words = [f"median and range of {seeds} seeds"] if seeds > 1 else []
    if any(share is not None and share > DIVERGED for panel in panels for share in panel.shares):
        words.append("×: diverged")
    if sharpness := [median(panel.sharpness) for panel in panels if any(_edge(panel, each) for each in panel.curves)]:
        words.append(f"dotted: edge of stability {EDGE}, λ = {sharpness[0]:.3g}")
    return words
