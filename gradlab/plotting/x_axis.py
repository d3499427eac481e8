"""The x axis of a figure of runs: its range, and as many ticks as there is room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.plotting.rendering import FONT_SIZE
from gradlab.plotting.texts import width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import Locator

    from gradlab.plotting.views import View

SPARE = 0.02  # of the range, left of the first point; half of it is right of the last one
MOST_TICKS = 10


def set_x_axis(axes: Axes, view: View, inches: float, scale: float) -> None:
    """Set the range, the ticks and the label of an x axis of this length.

    Args:
        axes: the axes.
        view: what they show.
        inches: the length of the axis.
        scale: the size of the font, as a share of the usual one.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    spare = SPARE * (view.right - view.left) or 0.5
    axes.set_xlim(view.left - spare, view.right + spare / 2)
    each = width_of(f"{view.right:,.0f}", FONT_SIZE * scale) + 12  # points
    ticks = max(1, min(MOST_TICKS, int(72 * inches / each)))
    epochs = view.axis == "epoch"
    axes.xaxis.set_major_locator(
        _epoch_ticks(view, ticks) if epochs else MaxNLocator(nbins=ticks, integer=True, min_n_ticks=1)
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel(view.axis)


def _epoch_ticks(view: View, ticks: int) -> Locator:
    """Return the ticks of an epoch axis: the first epoch, then every 1, 5, 10, 50 … epochs."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    places = MaxNLocator(nbins=ticks, steps=[1, 5, 10], integer=True).tick_values(view.left, view.right)
    places = [float(place) for place in places if view.left < place <= view.right]
    gap = places[1] - places[0] if len(places) > 1 else 0.0
    return FixedLocator([view.left, *(place for place in places if place - view.left >= 0.7 * gap)])
