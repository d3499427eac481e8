"""The edge of stability in a phase map: the line lr·λ = 2(1 + keep), its range over seeds, and its label."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

from gradlab.analysis import theory
from gradlab.plotting.labels import width_of
from gradlab.plotting.scales import cell_borders

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from gradlab.plotting.panels import PhaseMap

EDGE = "lr·λ = 2(1 + keep)"


def is_edge_visible(panel: PhaseMap) -> bool:
    """Return whether the edge runs through the panel."""
    borders = cell_borders(panel.x)
    lrs = [theory.largest_stable_lr(median(panel.sharpness), keep) for keep in panel.y if -1 < keep <= 1]
    return bool(lrs) and min(lrs) < borders[-1] and max(lrs) > borders[0]


def draw_edge(axes: Axes, panel: PhaseMap, *, label_size: float) -> None:
    """Draw the edge: its median over seeds as a labelled line, its range dotted."""
    from matplotlib.patheffects import withStroke

    low, high = axes.get_ylim()
    keeps = [low + (high - low) * nth / 200 for nth in range(201)]
    keeps = [keep for keep in keeps if -1 < keep <= 1]
    if not keeps:
        return
    middle, most, least = (
        [theory.largest_stable_lr(of(panel.sharpness), keep) for keep in keeps] for of in (median, min, max)
    )
    if len(set(panel.sharpness)) > 1:
        for side in (least, most):
            dots = axes.plot(side, keeps, color="black", linewidth=1.1, linestyle=(0, (1.5, 2)), zorder=4)[0]
            dots.set_path_effects([withStroke(linewidth=2.4, foreground="white")])
    line = axes.plot(middle, keeps, color="black", linewidth=1.8, zorder=5, solid_capstyle="butt")[0]
    line.set_path_effects([withStroke(linewidth=3.6, foreground="white")])
    _label_edge(axes, list(zip(middle, keeps, strict=True)), label_size)


def _label_edge(axes: Axes, line: Sequence[tuple[float, float]], size: float) -> None:
    """Write the formula along the line, to its right if there is room."""
    left, right = axes.get_xlim()
    visible = [point for point in line if left < point[0] < right]
    if len(visible) < 2:
        return
    dpi = axes.figure.dpi
    ends = [axes.transData.transform(visible[nth]) for nth in (0, -1)]
    before, after = ([float(place) * 72 / dpi for place in end] for end in ends)
    if math.dist(before, after) < width_of(EDGE, size) + size:
        return  # too little of the line is visible; the caption has the formula
    turn = math.degrees(math.atan2(after[1] - before[1], after[0] - before[0]))
    room = float(axes.transAxes.transform((1, 0))[0]) * 72 / dpi - max(before[0], after[0])
    distance = 2.2 * size if room > 4 * size else size if room > 2.2 * size else -size
    slant = math.radians(turn)
    axes.annotate(
        EDGE, visible[len(visible) // 2], (distance * math.sin(slant), -distance * math.cos(slant)),
        textcoords="offset points", rotation=turn, rotation_mode="anchor", ha="center", va="center", fontsize=size,
        color="black", zorder=6,
        bbox={"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
    )  # fmt: skip
