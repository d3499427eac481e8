"""The figure of a sweep: phase maps over two axes, or profiles over one, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.errors import PlotError
from gradlab.plotting import phase_maps, profiles
from gradlab.plotting.panels import MAX_PANELS, PhaseMap, Profile
from gradlab.plotting.rendering import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure


def draw_phases(panels: Sequence[PhaseMap] | Sequence[Profile], *, title: str = "", width: int = 1200) -> Figure:
    """Return the figure of these panels, side by side, in one scale of colours or of losses.

    Args:
        panels: as `panels_of` returns them, of one sweep or of several; all maps, or all profiles.
        title: above all of them.
        width: pixels, as a PNG.

    Raises:
        PlotError: there are no panels, too many, or both kinds, or no panel has a run.
    """
    maps = [each for each in panels if isinstance(each, PhaseMap)]
    curves = [each for each in panels if isinstance(each, Profile)]
    if not panels or (maps and curves):
        raise PlotError("panels must be all maps or all curves, and one at least")
    if len(panels) > MAX_PANELS:
        raise PlotError(f"{len(panels)} panels are too many to read, at most {MAX_PANELS}: draw several pictures")
    if not any(share is not None for each in panels for share in each.shares):
        raise PlotError("there is no run to draw yet")
    with style():
        return phase_maps.draw(maps, title, width) if maps else profiles.draw(curves, title, width)
