"""Curves to figures: loss against step, update or epoch, one curve a mode, named at the curve."""

from __future__ import annotations

import io
import math
import textwrap
from contextlib import contextmanager
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import curves
from gradlab.errors import PlotError, shortened, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gradlab.rows import Row
    from gradlab.store import RunRecord

# Okabe and Ito, Color Universal Design (2008), without the yellow, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (2, 1.4)),
    (0, (8, 2, 2, 2)),
    (0, (1, 1.6)),
    (0, (10, 3)),
    (0, (4, 1, 1, 1, 1, 1)),
)
USUAL = ("zero_grad", "no_zero_grad", "halve_grad")  # always in the same colours

FORMATS = {".png": "png", ".svg": "svg", ".pdf": "pdf"}
DECADES = 2.0  # of values on one axis, from which on it is logarithmic
CEILING = 1e6  # times the highest start: what grows beyond it leaves the picture
LABEL = 10.0  # points
INK, FAINT = "#222222", "#777777"


class Line(NamedTuple):
    """A curve of the picture: its name, one run or the median of several, and how it is drawn."""

    name: str
    band: curves.Band
    seeds: int
    colour: str
    dash: Any

    @property
    def finite(self) -> int:
        """How many points come before the first that no axis can show: not finite, or beyond 10¹⁰⁰."""
        return next((nth for nth, y in enumerate(self.band.middle) if not abs(y) < curves.HUGE), len(self.band.middle))


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
) -> Figure:
    """Return the figure of these runs, seeds of one mode together.

    Args:
        runs: record and rows of each.
        axis: step, update or epoch; None takes what reads best.
        title: of the figure; None takes the experiment's.
        width: pixels, as a PNG.

    Raises:
        PlotError: there is no row to draw, or no such axis.
    """
    drawn = [(record, rows) for record, rows in runs if rows]
    if not drawn:
        raise PlotError("there is no row to draw yet")
    chosen = _axis(axis, drawn)
    lines = _lines(drawn, chosen)
    with _style():
        from matplotlib.figure import Figure

        dpi = 150 if width >= 900 else 100
        figure = Figure(figsize=(width / dpi, 0.6 * width / dpi), dpi=dpi)
        axes = figure.add_subplot()
        bottom, top, log = _scale(lines)
        if log:
            axes.set_yscale("log")
        axes.set_ylim(bottom, top)
        for line in lines:
            _draw_line(axes, line)
        _dress(figure, axes, drawn, chosen, lines, title)
        _name_lines(figure, axes, lines, chosen)
    return figure


def rendered(figure: Figure, suffix: str) -> bytes:
    """Return the figure as PNG, SVG or PDF: the same bytes for the same figure."""
    kind = FORMATS[suffix.lower()]
    metadata: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
    out = io.BytesIO()
    with _style():
        figure.savefig(out, format=kind, metadata=metadata)
    return out.getvalue()


@contextmanager
def _style() -> Iterator[None]:
    """Draw alike everywhere, whatever the user's matplotlibrc says."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "svg.hashsalt": "gradlab",
                "font.size": 10,
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
    if axis is None:
        natural = {curves.natural_axis(rows) for _, rows in runs}
        return natural.pop() if len(natural) == 1 else "step"
    for known in ("step", "update", "epoch"):
        if axis == known:
            return known
    raise PlotError(unknown("axis", axis, ["step", "update", "epoch"]))


def _lines(runs: Sequence[tuple[RunRecord, Sequence[Row]]], axis: curves.Axis) -> list[Line]:
    """Group the runs by all but their seed, name the groups by what tells them apart, and give each its looks."""
    groups: dict[tuple[tuple[str, str], ...], list[Sequence[Row]]] = {}
    for record, rows in runs:
        traits = {**_flat(record.settings), "experiment": record.experiment, "mode": record.mode}
        traits.pop("seed", None)
        groups.setdefault(tuple(sorted(traits.items())), []).append(rows)
    several = [dict(key) for key in groups]
    differing = _differing(several)
    lines = []
    looks = cycle(
        zip(COLOURS[len(USUAL) :] + COLOURS[: len(USUAL)], DASHES[len(USUAL) :] + DASHES[: len(USUAL)], strict=True)
    )
    taken: set[str] = set()
    for traits, members in zip(several, groups.values(), strict=True):
        mode = traits["mode"]
        if mode in USUAL and mode not in taken:
            colour, dash = COLOURS[USUAL.index(mode)], DASHES[USUAL.index(mode)]
        else:
            colour, dash = next(looks)
        taken.add(mode)
        name = ", ".join(
            [
                mode,
                *(
                    f"{trait.rpartition('.')[2]}\N{NO-BREAK SPACE}{traits[trait]}"
                    for trait in differing
                    if trait in traits
                ),
            ]
        )
        band = curves.band([curves.curve(rows, axis) for rows in members])
        lines.append(Line(name, band, len(members), colour, dash))
    return lines


def _differing(groups: Sequence[dict[str, str]]) -> list[str]:
    """Return the traits besides the mode that tell the groups apart; the experiment alone where it does."""

    def kinds(traits: Iterable[str]) -> int:
        return len({tuple(group.get(trait) for trait in traits) for group in groups})

    known = sorted({trait for group in groups for trait in group} - {"mode", "task_source"})
    differing = [trait for trait in known if kinds([trait]) > 1]
    return ["experiment"] if differing and kinds(["experiment"]) == kinds(differing) else differing


def _flat(settings: dict[str, Any], before: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[before + key] = f"{value:g}" if isinstance(value, float) else str(value)
    return flat


def _scale(lines: Sequence[Line]) -> tuple[float, float, bool]:
    """Return bottom and top of the loss axis, and whether it is logarithmic."""
    finite = [
        y for line in lines for y in (*line.band.low, *line.band.middle, *line.band.high) if abs(y) < curves.HUGE
    ]
    if not finite:
        return 0.0, 1.0, False
    start = max((abs(line.band.middle[0]) for line in lines if line.finite), default=1.0) or 1.0
    ceiling = CEILING * start
    low, high = min(finite), min(max(finite), ceiling)
    positive = [y for y in finite if y > 0]
    if low >= 0 and positive and high / min(positive) >= 10**DECADES:
        floor = max(min(positive), high / 1e12)
        return floor / 1.5, high * 1.5, True
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
    return (0.0 if 0 <= low < 0.5 * high else low - margin), high + margin, False


def _draw_line(axes: Axes, line: Line) -> None:
    n, band = line.finite, line.band
    few = n <= 12
    axes.plot(
        band.x[:n], band.middle[:n], color=line.colour, linestyle=line.dash, linewidth=2.0, zorder=3,
        marker="o" if few else None, markersize=4.5, solid_capstyle="round",
    )  # fmt: skip
    if line.seeds > 1:
        top = axes.get_ylim()[1] * 10
        high = [min(y, top) for y in band.high[:n]]
        axes.fill_between(band.x[:n], band.low[:n], high, color=line.colour, alpha=0.15, linewidth=0, zorder=2)
    if n < len(band.middle):
        axes.plot(*_exit(axes, line), marker="X", markersize=9, color=line.colour, clip_on=False, zorder=5)


def _exit(axes: Axes, line: Line) -> tuple[float, float]:
    """Return where the curve ends in the picture: at its last finite point, or where it leaves through the top."""
    top = axes.get_ylim()[1]
    x, y = line.band.x[: line.finite], line.band.middle[: line.finite]
    above = next((nth for nth, each in enumerate(y) if each > top), None)
    if not y or above == 0:
        return line.band.x[0], top
    if above is None:
        return x[-1], y[-1]
    scaled = [axes.transScale.transform((1, each))[1] for each in (y[above - 1], top, y[above])]
    share = (scaled[1] - scaled[0]) / (scaled[2] - scaled[0])
    return x[above - 1] + share * (x[above] - x[above - 1]), top


def _dress(
    figure: Figure,
    axes: Axes,
    runs: Sequence[tuple[RunRecord, Sequence[Row]]],
    axis: curves.Axis,
    lines: Sequence[Line],
    title: str | None,
) -> None:
    """Write title, what was trained, and the axes."""
    from matplotlib.ticker import MaxNLocator

    records = [record for record, _ in runs]
    names = list(dict.fromkeys(record.title or record.experiment for record in records))
    heading = title if title is not None else names[0] if len(names) == 1 else ""
    seeds = sorted({record.seed for record in records})
    several = max(line.seeds for line in lines)
    facts = [_common(records, key) for key in ("task", "optimizer.name", "optimizer.lr", "task_options.batch_size")]
    words = [fact and before + fact for before, fact in zip(("", "", "lr ", "batch size "), facts, strict=True)]
    words.append(f"seed {seeds[0]}" if len(seeds) == 1 else f"median and range of {several} seeds")
    axes.set_title("\n" if heading else "", loc="left", fontsize=10)
    axes.annotate(
        heading, (0, 1), (0, 26), "axes fraction", textcoords="offset points", fontsize=12, fontweight="bold"
    )
    axes.annotate(
        "  ·  ".join(word for word in words if word), (0, 1), (0, 11), "axes fraction", textcoords="offset points",
        fontsize=9, color=FAINT,
    )  # fmt: skip
    axes.set_xlabel(axis)
    axes.set_ylabel("training loss, mean of an epoch" if axis == "epoch" else "training loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8, zorder=0)
    axes.tick_params(length=3)
    figure.subplots_adjust(
        left=0.9 / figure.get_figwidth(), bottom=0.55 / figure.get_figheight(), top=1 - 0.7 / figure.get_figheight()
    )


def _common(records: Sequence[RunRecord], key: str) -> str:
    """Return a setting that all runs share, or nothing."""
    values = {_flat(record.settings).get(key) for record in records}
    return (values.pop() or "") if len(values) == 1 else ""


def _name_lines(figure: Figure, axes: Axes, lines: Sequence[Line], axis: curves.Axis) -> None:
    """Write each name at the end of its curve, to the right of the axes, moved apart where they would touch."""
    names = [_label(line, axis) for line in lines]
    margin = min(max(map(_width, names)) / 72 + 0.4, 0.45 * figure.get_figwidth())
    figure.subplots_adjust(right=1 - margin / figure.get_figwidth())
    left, right = min(line.band.x[0] for line in lines), max(line.band.x[-1] for line in lines)
    spare = 0.02 * (right - left) or 1.0
    axes.set_xlim(left - spare, right + spare / 2)
    height = axes.get_position().height * figure.get_figheight() * 72  # points
    to_axes = axes.transData + axes.transAxes.inverted()
    low, high = axes.get_ylim()
    ends = []
    for line in lines:
        whole = line.finite == len(line.band.middle)
        x, y = (line.band.x[-1], line.band.middle[-1]) if whole else _exit(axes, line)
        right_at, up_at = to_axes.transform((x, min(max(y, low), high)))
        ends.append((float(right_at), float(up_at)))
    spaces = [LABEL * 1.35 * (1 + name.count("\n")) for name in names]
    places = _apart([end[1] * height for end in ends], spaces, height)
    beside = 1 + 14 / 72 / (axes.get_position().width * figure.get_figwidth())
    for line, name, end, place in zip(lines, names, ends, places, strict=True):
        moved = abs(place - end[1] * height) > 3 or end[0] < 0.97
        thread = {"arrowstyle": "-", "color": line.colour, "linewidth": 0.7, "alpha": 0.7, "shrinkA": 1, "shrinkB": 3}
        axes.annotate(
            name, end, (beside, place / height), xycoords="axes fraction", textcoords="axes fraction", va="center",
            color=line.colour, fontsize=LABEL, fontweight="bold", annotation_clip=False,
            arrowprops=thread if moved else None,
        )  # fmt: skip


def _label(line: Line, axis: curves.Axis) -> str:
    """Return the name of the curve, on several lines where it is long, and where it leaves the finite."""
    parts = textwrap.wrap(line.name, 26)
    if line.finite < len(line.band.middle):
        what = "beyond 1e100" if math.isfinite(line.band.middle[line.finite]) else "not finite"
        parts.append(f"× {what} from {axis} {line.band.x[line.finite]:g}")
    return "\n".join(parts)


def _width(label: str) -> float:
    """Return the width of a label in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    bold = FontProperties(weight="bold")
    return max(TextPath((0, 0), part, size=LABEL, prop=bold).get_extents().width for part in label.split("\n"))


def _apart(wanted: Sequence[float], heights: Sequence[float], space: float) -> list[float]:
    """Return places near the wanted ones, none closer than its height to the next, within `space` where they fit."""
    order = sorted(range(len(wanted)), key=lambda nth: wanted[nth])
    places = list(wanted)
    for _ in range(200):
        moved = False
        for below, above in pairwise(order):
            overlap = (heights[below] + heights[above]) / 2 - (places[above] - places[below])
            if overlap > 0.01:
                places[below] -= overlap / 2
                places[above] += overlap / 2
                moved = True
        for nth in order:
            places[nth] = min(max(places[nth], 0), space)
        if not moved:
            break
    return places
