"""The figure: loss against step, update or epoch, one curve a mode."""

from __future__ import annotations

import io
import textwrap
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradlab.analysis import curves
from gradlab.errors import PlotError, printable, shortened, unknown
from gradlab.plotting.labels import leaves_at, name_lines, width_of
from gradlab.plotting.lines import Line, finite_points, flat, lines_of
from gradlab.plotting.theory_curves import prediction
from gradlab.rows import HUGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

    from gradlab.rows import Row
    from gradlab.store import RunRecord


FORMATS = {".png": "png", ".svg": "svg", ".pdf": "pdf"}
DECADES = 2.0  # of values on one axis, from which on it is logarithmic
CEILING = 1e6  # times the highest start: what grows beyond it leaves the picture
INK, FAINT = "#222222", "#777777"


def check_formats(files: Iterable[Path]) -> None:
    """Raise PlotError for a suffix that is none of .png, .svg and .pdf."""
    for file in files:
        if file.suffix.lower() not in FORMATS:
            raise PlotError(f"{shortened(file)}: the suffix says the format: {', '.join(FORMATS)}")


def draw(
    runs: Sequence[tuple[RunRecord, Sequence[Row]]],
    *,
    axis: str | None = None,
    title: str | None = None,
    width: int = 1200,
    theory: bool = False,
) -> Figure:
    """Return the figure of these runs, seeds of one mode together.

    Args:
        runs: record and rows of each.
        axis: step, update or epoch; None takes what reads best.
        title: of the figure; None takes the experiment's.
        width: pixels, as a PNG.
        theory: draw the closed forms over the curves that have them, dashed; `without_theory` tells which have not.

    Raises:
        PlotError: there is no row to draw, or no such axis.
    """
    drawn = [(record, rows) for record, rows in runs if rows]
    if not drawn:
        raise PlotError("there is no row to draw yet")
    chosen = _axis(axis, drawn)
    lines = lines_of(drawn, chosen)
    with style():
        from matplotlib.figure import Figure

        dpi = 150 if width >= 900 else 100
        figure = Figure(figsize=(width / dpi, 0.6 * width / dpi), dpi=dpi)
        axes = figure.add_subplot()
        bottom, top, log = _scale(lines)
        if log:
            axes.set_yscale("log")
        axes.set_ylim(bottom, top)
        for line in lines:
            predicted = prediction(line, chosen) if theory else None
            _draw_line(axes, line, broad=predicted is not None, dashes=not theory)
            if predicted:
                _draw_theory(axes, line, predicted)
        _dress(figure, axes, drawn, chosen, lines, title, theory=theory)
        name_lines(figure, axes, lines, chosen)
    return figure


def rendered(figure: Figure, suffix: str) -> bytes:
    """Return the figure as PNG, SVG or PDF: the same bytes for the same figure."""
    kind = FORMATS[suffix.lower()]
    metadata: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    out = io.BytesIO()
    with style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # a title in another script
        figure.savefig(out, format=kind, metadata=metadata)
    return out.getvalue()


@contextmanager
def style() -> Iterator[None]:
    """Draw alike everywhere, whatever the user's matplotlibrc says."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "svg.hashsalt": "gradlab",
                "font.size": 10,
                "hatch.linewidth": 0.6,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.edgecolor": FAINT,
                "axes.labelcolor": INK,
                "xtick.color": FAINT,
                "ytick.color": FAINT,
                "xtick.labelcolor": INK,
                "ytick.labelcolor": INK,
                "text.color": INK,
            }
        )
        yield


def _axis(axis: str | None, runs: Sequence[tuple[RunRecord, Sequence[Row]]]) -> curves.Axis:
    """Return the axis asked for, or the one that shows most: steps where an epoch is too long to see a curve end."""
    if axis is None:
        natural = {curves.natural_axis(rows) for _, rows in runs}
        few = all(len([mean for mean in curves.epoch_means(rows) if abs(mean) < HUGE]) < 2 for _, rows in runs)
        return "step" if few else natural.pop() if len(natural) == 1 else "epoch"
    for known in ("step", "update", "epoch"):
        if axis == known:
            return known
    raise PlotError(unknown("axis", axis, ["step", "update", "epoch"]))


def _scale(lines: Sequence[Line]) -> tuple[float, float, bool]:
    """Return bottom and top of the loss axis, and whether it is logarithmic."""
    finite = [y for line in lines for y in (*line.band.low, *line.band.median, *line.band.high) if abs(y) < HUGE]
    if not finite:
        return 0.0, 1.0, False
    start = max((abs(line.band.median[0]) for line in lines if line.finite), default=1.0) or 1.0
    ceiling = CEILING * start
    low, high = min(finite), min(max(finite), ceiling)
    positive = [y for y in finite if y > 0]
    if low >= 0 and positive and high / min(positive) >= 10**DECADES:
        floor = max(min(positive), high / 1e12)
        return floor / 1.5, high * 1.5, True
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
    return (0.0 if 0 <= low < 0.5 * high else low - margin), high + margin, False


def _draw_line(axes: Axes, line: Line, *, broad: bool, dashes: bool) -> None:
    """Draw a curve; `broad` leaves room for theory upon it; without `dashes` these are left to theory."""
    n, band = line.finite, line.band
    few = n <= 12
    axes.plot(
        band.x[:n], band.median[:n], color=line.colour,
        linestyle=line.dash if dashes and not line.under else "-",
        linewidth=2.0 + 5.0 * min(line.under, 4) if line.under else 4.5 if broad else 2.0,
        alpha=0.3 if line.under else 0.4 if broad else None,
        zorder=2.5 - 0.01 * line.under if line.under else 3,
        marker="o" if few and not line.under else None, markersize=4.5, solid_capstyle="round",
    )  # fmt: skip
    if line.seeds > 1:
        top = axes.get_ylim()[1] * 10
        high = [min(y, top) for y in band.high[:n]]
        axes.fill_between(band.x[:n], band.low[:n], high, color=line.colour, alpha=0.15, linewidth=0, zorder=2)
    if n < len(band.median):
        axes.plot(*leaves_at(axes, line), marker="X", markersize=9, color=line.colour, clip_on=False, zorder=5)


def _draw_theory(axes: Axes, line: Line, predicted: curves.Band) -> None:
    n = finite_points(predicted)
    axes.plot(predicted.x[:n], predicted.median[:n], color=line.colour, linestyle=(0, (4, 2)), linewidth=1.3, zorder=4)


def _dress(
    figure: Figure,
    axes: Axes,
    runs: Sequence[tuple[RunRecord, Sequence[Row]]],
    axis: curves.Axis,
    lines: Sequence[Line],
    title: str | None,
    *,
    theory: bool,
) -> None:
    """Write title, what was trained, and the axes."""
    from matplotlib.ticker import MaxNLocator

    records = [record for record, _ in runs]
    room = int(9.5 * figure.get_figwidth())
    heading = printable(_heading(records, room) if title is None else title)
    heading = textwrap.shorten(heading, room, placeholder=" …")
    facts = [_common(records, key) for key in ("task", "optimizer.name", "optimizer.lr", "task_options.batch_size")]
    words = [fact and before + fact for before, fact in zip(("", "", "lr ", "batch size "), facts, strict=True)]
    words += [_seeds(records, lines), "dashed: theory" if theory else ""]
    axes.set_title("\n" if heading else "", loc="left", fontsize=10)
    axes.annotate(
        heading,
        (0, 1),
        (0, 26),
        "axes fraction",
        textcoords="offset points",
        fontsize=12,
        fontweight="bold",
        parse_math=False,
    )
    below = shortened("  ·  ".join(word for word in words if word), 200)
    points = 72 * (figure.get_figwidth() - 1.0)
    axes.annotate(
        below, (0, 1), (0, 11), "axes fraction", textcoords="offset points", color=FAINT,
        fontsize=min(9.0, 9.0 * points / width_of(below, 9.0)), parse_math=False,
    )  # fmt: skip
    axes.set_xlabel(axis)
    axes.set_ylabel("training loss, mean of an epoch" if axis == "epoch" else "training loss")
    axes.xaxis.set_major_locator(_epoch_ticks(lines) if axis == "epoch" else MaxNLocator(integer=True))
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8, zorder=0)
    axes.tick_params(length=3)
    figure.subplots_adjust(
        left=0.9 / figure.get_figwidth(), bottom=0.55 / figure.get_figheight(), top=1 - 0.7 / figure.get_figheight()
    )


def _heading(records: Sequence[RunRecord], room: int) -> str:
    """Return the title of the experiments; their names where titles begin alike or are too long to stand together."""
    titles = list(dict.fromkeys(record.title or record.experiment for record in records))
    together = ", ".join(titles)
    begins = {tuple(each.split()[:2]) for each in titles}
    if len(titles) > 1 and (len(together) > room or len(begins) < len(titles)):
        return ", ".join(dict.fromkeys(record.experiment for record in records))
    return together


def _epoch_ticks(lines: Sequence[Line]) -> Locator:
    """Return where epochs are numbered: at the first one, and at each or each fifth, tenth, fiftieth … from there."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    first, last = lines[0].band.x[0], max(line.band.x[-1] for line in lines)
    places = MaxNLocator(nbins=10, steps=[1, 5, 10], integer=True).tick_values(first, last)
    return FixedLocator([first, *(float(place) for place in places if first < place <= last)])


def _seeds(records: Sequence[RunRecord], lines: Sequence[Line]) -> str:
    """Say what seeds the curves are of."""
    counts = {line.seeds for line in lines}
    if len(counts) > 1:
        return "median and range where there are several seeds"
    if (several := counts.pop()) > 1:
        return f"median and range of {several} seeds"
    seeds = sorted({record.seed for record in records})
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds[:5]))}"


def _common(records: Sequence[RunRecord], key: str) -> str:
    """Return a setting that all runs share, or nothing."""
    values = {flat(record.settings).get(key) for record in records}
    return (values.pop() or "") if len(values) == 1 else ""
