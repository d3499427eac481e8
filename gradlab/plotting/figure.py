"""The figure of runs: a logged quantity over step, update or epoch, one curve per mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.analysis.quantities import LOSS
from gradlab.plotting.differences import flattened
from gradlab.plotting.headings import heading_of
from gradlab.plotting.heads import head_of
from gradlab.plotting.labels import fit_labels, write_labels
from gradlab.plotting.lines import Line, finite_points
from gradlab.plotting.losses import different_losses
from gradlab.plotting.rendering import FONT_SIZE, GRID, Page, font_scale, page_of, shown_in_notebooks, style
from gradlab.plotting.texts import width_of, wrapped
from gradlab.plotting.theory_curves import PREDICTED, prediction
from gradlab.plotting.views import View, end_of, view_of
from gradlab.plotting.x_axis import set_x_axis
from gradlab.plotting.y_axis import y_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradlab.analysis import curves
    from gradlab.rows import Row
    from gradlab.store import RunRecord

FEW, DENSE = 12, 60  # points of a curve: with fewer each has a dot, with more the line is thin
MARK = 7.0  # points, the size of the × where a curve stops being finite
BELOW, HEAD, BESIDE = 0.5, 0.7, 0.28  # inches: of x tick labels and x label, of a head of two lines, of the y label


def draw(
    runs: Sequence[tuple[RunRecord, Sequence[Row]]],
    *,
    axis: str | None = None,
    y: str = LOSS,
    yscale: str = "auto",
    ylim: tuple[float | None, float | None] = (None, None),
    smooth: int | None = None,
    title: str | None = None,
    width: int | None = None,
    size: tuple[float, float] | None = None,
    theory: bool = False,
) -> Figure:
    """Return the figure of these runs; the seeds of one mode share a curve.

    Args:
        runs: the record and rows of every run; the rows hold the values of `y` in place of the loss.
        axis: step, update or epoch; None chooses one.
        y: the quantity's name, which decides the label and scale of the y axis.
        yscale: log, linear or auto.
        ylim: the bottom and the top of the y axis; None for what suits.
        smooth: draw running medians of this many points, and the curves themselves faintly.
        title: the figure's title; None uses the experiment's.
        width: the width of the PNG in pixels; None for 1200, or for 300 per inch of `size`.
        size: the width and height of the figure in inches; None for what suits the width.
        theory: draw closed forms as dashed lines over the curves that have one; see `without_theory` for the others.

    Raises:
        PlotError: no run has rows, or an argument does not fit them.
    """
    view = view_of(runs, axis=axis, y=y, yscale=yscale, ylim=ylim, smooth=smooth, exact=theory)
    predicted = [prediction(line, view.axis, y) if theory and y in PREDICTED else None for line in view.lines]
    records = [record for record, rows in runs if rows]
    page = page_of(width, size)
    with style(font_scale(page.wide)):
        figure, axes = _lay_out(page, view, records, heading_of(records) if title is None else title, y, theory=theory)
        for line, theirs in zip(view.lines, predicted, strict=True):
            _draw_line(axes, line, font_scale(page.wide), broad=theirs is not None, dashes=not theory)
            if theirs:
                _draw_theory(axes, line, theirs)
        _draw_marks(axes, view)
        write_labels(figure, axes, view, fit_labels(view, page.wide), dashes=not theory)
    return shown_in_notebooks(figure)


def _lay_out(
    page: Page, view: View, records: Sequence[RunRecord], title: str, quantity: str, *, theory: bool
) -> tuple[Figure, Axes]:
    """Return the figure with its head, and the axes with their scales, ticks and labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scale = font_scale(page.wide)
    figure = Figure(figsize=(page.wide, page.tall), dpi=page.dpi)
    axes = figure.add_axes((0.2, 0.2, 0.6, 0.6))
    axes.set_yscale("log" if view.limits.log else "linear")
    axes.set_ylim(view.limits.bottom, view.limits.top)
    room = 72 * (page.tall - (BELOW + HEAD) * scale)  # points
    words = y_label(quantity, view.axis, view.lines).split(" ")
    axes.set_ylabel("\n".join(wrapped(words, FONT_SIZE * scale, room)), parse_math=False)
    axes.tick_params(length=3, labelsize=FONT_SIZE * scale)
    if not view.limits.log:
        axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(axis="y", color=GRID, linewidth=0.8, zorder=0)
    box = axes.yaxis.get_tightbbox(FigureCanvasAgg(figure).get_renderer())  # type: ignore[no-untyped-call]  # matplotlib's
    left = (axes.bbox.x0 - box.x0) / page.dpi + 0.08 if box else BESIDE
    head = head_of(title, _caption(view, records, quantity, theory=theory), page.wide, left)
    below, labels = BELOW * scale, fit_labels(view, page.wide)
    if page.grows:
        figure.set_figheight(max(page.tall + head.extra_height, head.height + below + labels.height))
    high, right = figure.get_figheight(), left + labels.width
    place = (left / page.wide, below / high, 1 - right / page.wide, 1 - (below + head.height + 0.06) / high)
    axes.set_position(place)
    label, room = axes.yaxis.label, 72 * place[3] * high  # points
    label.set_fontsize(FONT_SIZE * scale * min(1.0, room / width_of(label.get_text(), FONT_SIZE * scale)))
    head.write(figure, left)
    set_x_axis(axes, view, place[2] * page.wide, scale)
    return figure, axes


def _caption(view: View, records: Sequence[RunRecord], quantity: str, *, theory: bool) -> list[str]:
    """Return the parts of the caption: shared settings, seeds, and what the curves are."""
    facts = [
        _shared_setting(records, key) for key in ("task", "optimizer.name", "optimizer.lr", "task_options.batch_size")
    ]
    words = [fact and before + fact for before, fact in zip(("", "", "lr ", "batch size "), facts, strict=True)]
    words += [_seed_caption(records, view.lines), "dashed: theory" if theory else "", *view.notes]
    words.append(different_losses(records) if quantity.endswith(LOSS) else "")
    return [word for word in words if word]


def _draw_line(axes: Axes, line: Line, scale: float, *, broad: bool, dashes: bool) -> None:
    """Draw a curve; a `broad` one has theory on top; without `dashes` it is solid, since dashes mean theory."""
    n, band, covered_by = line.finite, line.band, line.covered_by
    few = n <= FEW
    usual = scale * (1.4 if n >= DENSE or line.block > 1 else 2.0)
    if line.raw:
        axes.plot(
            line.raw.x[:n], line.raw.median[:n], color=line.colour, linewidth=0.6, alpha=0.3, zorder=2.2, label="_raw"
        )
    axes.plot(
        band.x[:n], band.median[:n], color=line.colour, linestyle=line.dash if dashes and not covered_by else "-",
        linewidth=usual + 5.0 * min(covered_by, 4) if covered_by else 4.5 if broad else usual,
        alpha=0.3 if covered_by else 0.4 if broad else None, zorder=2.5 - 0.01 * covered_by if covered_by else 3,
        marker="o" if few and not covered_by else None, markersize=4.5 * scale, solid_capstyle="round",
    )  # fmt: skip
    if line.seeds > 1 or band.low != band.median:
        top = axes.get_ylim()[1] * 10
        high = [min(y, top) for y in band.high[:n]]
        axes.fill_between(band.x[:n], band.low[:n], high, color=line.colour, alpha=0.15, linewidth=0, zorder=2)


def _draw_theory(axes: Axes, line: Line, predicted: curves.Band) -> None:
    n = finite_points(predicted)
    axes.plot(predicted.x[:n], predicted.median[:n], color=line.colour, linestyle=(0, (4, 2)), linewidth=1.3, zorder=4)


def _draw_marks(axes: Axes, view: View) -> None:
    """Mark where curves stop being finite, side by side if two would overlap; not more than three at one place."""
    taken: list[tuple[float, float]] = []
    points, middle = 72 / axes.figure.dpi, 72 / axes.figure.dpi * (axes.bbox.x0 + axes.bbox.x1) / 2
    for line in view.lines:
        if line.finite == len(line.band.median):
            continue
        end = end_of(line, view.limits)
        x, y = (float(each) * points for each in axes.transData.transform((end.x, end.y)))
        aside = (MARK + 1) * (1 if x < middle else -1)
        free = [
            shift
            for shift in (0.0, aside, 2 * aside)
            if not any(abs(x + shift - right) < MARK and abs(y - up) < MARK for right, up in taken)
        ]
        if not free:
            continue
        taken.append((x + free[0], y))
        moved = axes.transData.inverted().transform(((x + free[0]) / points, y / points))
        at = moved if free[0] else (end.x, end.y)
        axes.plot([at[0]], [at[1]], marker="X", markersize=MARK, color=line.colour, clip_on=False, zorder=5)


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
