"""The figure of a sweep: phase maps over two axes, or profiles over one, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.errors import PlotError
from gradlab.plotting import phase_maps, profiles
from gradlab.plotting.panels import MAX_PANELS, PhaseMap, Profile
from gradlab.plotting.rendering import font_scale, page_of, shown_in_notebooks, style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure


def draw_phases(
    panels: Sequence[PhaseMap] | Sequence[Profile],
    *,
    title: str = "",
    width: int | None = None,
    size: tuple[float, float] | None = None,
) -> Figure:
    """Return the figure of these panels, side by side with a common scale.

    Args:
        panels: results of `panels_of` for one or several sweeps; all maps or all profiles.
        title: the title above all panels.
        width: the width of the PNG in pixels; None for 1200, or for 300 per inch of `size`.
        size: the width and height of the figure in inches; None for what suits the width.

    Raises:
        PlotError: no panels, too many, or both kinds; or no panel has a run.
    """
    maps = [each for each in panels if isinstance(each, PhaseMap)]
    curves = [each for each in panels if isinstance(each, Profile)]
    if not panels or (maps and curves):
        raise PlotError("A figure needs at least one panel, and either only maps or only curves.")
    if len(panels) > MAX_PANELS:
        raise PlotError(f"{len(panels)} panels are too many to read. Draw several pictures of at most {MAX_PANELS}.")
    if not any(share is not None for each in panels for share in each.shares):
        raise PlotError("Nothing to draw: no run is finished yet.")
    page = page_of(width, size)
    with style(font_scale(page.wide)):
        figure = phase_maps.draw(maps, title, page) if maps else profiles.draw(curves, title, page)
    return shown_in_notebooks(figure)
