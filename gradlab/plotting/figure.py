"""The figure of runs: a logged quantity over step, update or epoch, one curve per mode."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from gradlab.analysis import curves
from gradlab.analysis.quantities import LOSS
from gradlab.errors import PlotError, printable, shortened, unknown
from gradlab.plotting.differences import flattened
from gradlab.plotting.labels import label_lines, overflow_mark, width_of
from gradlab.plotting.lines import Line, finite_points, lines_of
from gradlab.plotting.rendering import FAINT, GRID, dots_per_inch, shown_in_notebooks, style
from gradlab.plotting.theory_curves import PREDICTED, prediction
from gradlab.plotting.y_axis import fitted, y_label, y_limits
from gradlab.rows import HUGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

    from gradlab.rows import Row
    from gradlab.store import RunRecord


def draw(
    runs: Sequence[tuple[RunRecord, Sequence[Row]]],
    *,
    axis: str | None = None,
    y: str = LOSS,
    title: str | None = None,
    width: int = 1200,
    theory: bool = False,
) -> Figure:
    """Return the figure of these runs; the seeds of one mode share a curve.

    Args:
        runs: the record and rows of every run; the rows hold the values of `y` in place of the loss.
        axis: step, update or epoch; None chooses one.
        y: the quantity's name, which decides the label and scale of the y axis.
        title: the figure's title; None uses the experiment's.
        width: the width of the PNG in pixels.
        theory: draw closed forms as dashed lines over the curves that have one; see `without_theory` for the others.

    Raises:
        PlotError: no run has rows, or the axis is unknown.
    """
    drawn = [(record, rows) for record, rows in runs if rows]
    if not drawn:
        raise PlotError("Nothing to draw: the runs have no rows yet.")
    chosen = _choose_axis(axis, drawn)
    lines = lines_of(drawn, chosen)
    with style():
        from matplotlib.figure import Figure

        dpi = dots_per_inch(width)
        figure = Figure(figsize=(width / dpi, 0.6 * width / dpi), dpi=dpi)
        axes = figure.add_subplot()
        bottom, top, log = y_limits(y, lines)
        if log:
            axes.set_yscale("log")
        axes.set_ylim(bottom, top)
        for line in lines:
            predicted = prediction(line, chosen, y) if theory and y in PREDICTED else None
            _draw_line(axes, line, broad=predicted is not None, dashes=not theory)
            if predicted:
                _draw_theory(axes, line, predicted)
        _annotate(figure, axes, drawn, chosen, lines, title, theory=theory)
        label, size = fitted(y_label(y, chosen, lines), 65 * figure.get_figheight() * axes.get_position().height)
        axes.set_ylabel(label, fontsize=size, parse_math=False)
        label_lines(figure, axes, lines, chosen)
    return shown_in_notebooks(figure)


def _choose_axis(axis: str | None, runs: Sequence[tuple[RunRecord, Sequence[Row]]]) -> curves.Axis:
    """Return this axis; for None the natural one, or steps if fewer than two epochs have a finite mean."""
    if axis is None:
        natural = {curves.natural_axis(rows) for _, rows in runs}
        few = all(len([mean for mean in curves.epoch_means(rows) if abs(mean) < HUGE]) < 2 for _, rows in runs)
        return "step" if few else natural.pop() if len(natural) == 1 else "epoch"
    for known in ("step", "update", "epoch"):
        if axis == known:
            return known
    raise PlotError(unknown("axis", axis, ["step", "update", "epoch"]))


def _draw_line(axes: Axes, line: Line, *, broad: bool, dashes: bool) -> None:
    """Draw a curve; a `broad` one has theory on top; without `dashes` it is solid, since dashes mean theory."""
    n, band, covered_by = line.finite, line.band, line.covered_by
    few = n <= 12
    axes.plot(
        band.x[:n], band.median[:n], color=line.colour, linestyle=line.dash if dashes and not covered_by else "-",
        linewidth=2.0 + 5.0 * min(covered_by, 4) if covered_by else 4.5 if broad else 2.0,
        alpha=0.3 if covered_by else 0.4 if broad else None, zorder=2.5 - 0.01 * covered_by if covered_by else 3,
        marker="o" if few and not covered_by else None, markersize=4.5, solid_capstyle="round",
    )  # fmt: skip
    if line.seeds > 1:
        top = axes.get_ylim()[1] * 10
        high = [min(y, top) for y in band.high[:n]]
        axes.fill_between(band.x[:n], band.low[:n], high, color=line.colour, alpha=0.15, linewidth=0, zorder=2)
    if n < len(band.median):
        axes.plot(*overflow_mark(axes, line), marker="X", markersize=9, color=line.colour, clip_on=False, zorder=5)


def _draw_theory(axes: Axes, line: Line, predicted: curves.Band) -> None:
    n = finite_points(predicted)
    axes.plot(predicted.x[:n], predicted.median[:n], color=line.colour, linestyle=(0, (4, 2)), linewidth=1.3, zorder=4)


def _annotate(
    figure: Figure,
    axes: Axes,
    runs: Sequence[tuple[RunRecord, Sequence[Row]]],
    axis: curves.Axis,
    lines: Sequence[Line],
    title: str | None,
    *,
    theory: bool,
) -> None:
    """Add the title, the caption and the axis labels."""
    from matplotlib.ticker import MaxNLocator

    records = [record for record, _ in runs]
    room = int(9.5 * figure.get_figwidth())
    heading = printable(_heading(records, room) if title is None else title)
    heading = textwrap.shorten(heading, room, placeholder=" …")
    facts = [
        _shared_setting(records, key) for key in ("task", "optimizer.name", "optimizer.lr", "task_options.batch_size")
    ]
    words = [fact and before + fact for before, fact in zip(("", "", "lr ", "batch size "), facts, strict=True)]
    words += [_seed_caption(records, lines), "dashed: theory" if theory else ""]
    axes.set_title("\n" if heading else "", loc="left", fontsize=10)
    axes.annotate(
        heading, (0, 1), (0, 26), "axes fraction", textcoords="offset points", fontsize=12, fontweight="bold",
        parse_math=False,
    )  # fmt: skip
    caption = shortened("  ·  ".join(word for word in words if word), 200)
    points = 72 * (figure.get_figwidth() - 1.0)
    axes.annotate(
        caption, (0, 1), (0, 11), "axes fraction", textcoords="offset points", color=FAINT,
        fontsize=min(9.0, 9.0 * points / width_of(caption, 9.0)), parse_math=False,
    )  # fmt: skip
    axes.set_xlabel(axis)
    axes.xaxis.set_major_locator(_epoch_ticks(lines) if axis == "epoch" else MaxNLocator(integer=True))
    axes.grid(axis="y", color=GRID, linewidth=0.8, zorder=0)
    axes.tick_params(length=3)
    figure.subplots_adjust(
        left=0.9 / figure.get_figwidth(), bottom=0.55 / figure.get_figheight(), top=1 - 0.7 / figure.get_figheight()
    )


def _heading(records: Sequence[RunRecord], room: int) -> str:
    """Return the titles of the experiments, or their names if titles begin alike or are too long."""
    titles = list(dict.fromkeys(record.title or record.experiment for record in records))
    together = ", ".join(titles)
    begins = {tuple(each.split()[:2]) for each in titles}
    if len(titles) > 1 and (len(together) > room or len(begins) < len(titles)):
        return ", ".join(dict.fromkeys(record.experiment for record in records))
    return together


def _epoch_ticks(lines: Sequence[Line]) -> Locator:
    """Return the ticks of an epoch axis: the first epoch, then every 1, 5, 10, 50 … epochs."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    first, last = lines[0].band.x[0], max(line.band.x[-1] for line in lines)
    places = MaxNLocator(nbins=10, steps=[1, 5, 10], integer=True).tick_values(first, last)
    return FixedLocator([first, *(float(place) for place in places if first < place <= last)])


def _seed_caption(records: Sequence[RunRecord], lines: Sequence[Line]) -> str:
    """Return the part of the caption about seeds."""
    counts = {line.seeds for line in lines}
    if len(counts) > 1:
        return "several seeds: median and range"
    if (several := counts.pop()) > 1:
        return f"median and range of {several} seeds"
    seeds = sorted({record.seed for record in records})
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds[:5]))}"


def _shared_setting(records: Sequence[RunRecord], key: str) -> str:
    """Return a setting that all runs share, or ""."""
    values = {flattened(record.settings).get(key) for record in records}
    return (values.pop() or "") if len(values) == 1 else ""
