"""The edge of stability in a phase map: the line lr·λ = 2(1 + keep) and its range over seeds."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from gradlab.analysis import theory
from gradlab.plotting.scales import cell_borders

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradlab.plotting.panels import PhaseMap

EDGE = "lr·λ = 2(1 + keep)"


def is_edge_visible(panel: PhaseMap) -> bool:
    """Return whether the edge, or its range over seeds, runs through the panel."""
    borders, keeps = cell_borders(panel.x), _keeps(panel)
    if not panel.sharpness or not keeps:
        return False
    lowest = theory.largest_stable_lr(max(panel.sharpness), keeps[0])
    highest = theory.largest_stable_lr(min(panel.sharpness), keeps[-1])
    return lowest < borders[-1] and highest > borders[0]


def draw_edge(axes: Axes, panel: PhaseMap) -> None:
    """Draw the edge: its median over seeds as a line, its range dotted. The caption has the formula."""
    from matplotlib.patheffects import withStroke

    keeps = _keeps(panel)
    middle, most, least = (
        [theory.largest_stable_lr(of(panel.sharpness), keep) for keep in keeps] for of in (median, min, max)
    )
    if len(set(panel.sharpness)) > 1:
        for side in (least, most):
            dots = axes.plot(side, keeps, color="black", linewidth=1.1, linestyle=(0, (1.5, 2)), zorder=4)[0]
            dots.set_path_effects([withStroke(linewidth=2.4, foreground="white")])
    line = axes.plot(middle, keeps, color="black", linewidth=1.8, zorder=5, solid_capstyle="butt")[0]
    line.set_path_effects([withStroke(linewidth=3.6, foreground="white")])


def _keeps(panel: PhaseMap) -> list[float]:
    """Return the values of keep from the bottom to the top of the panel that have an edge."""
    borders = cell_borders(panel.y)
    low, high = borders[0], borders[-1]
    keeps = [low + (high - low) * nth / 200 for nth in range(201)]
    return [keep for keep in keeps if -1 < keep <= 1]
