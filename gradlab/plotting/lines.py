"""The curves of a figure: one line for runs that differ only in the seed, named by its differing settings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.analysis import curves
from gradlab.modes import AS_WRITTEN
from gradlab.plotting.differences import distinguishing_settings, flattened, setting_names
from gradlab.rows import HUGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradlab.rows import Row
    from gradlab.store import RunRecord

# Okabe and Ito, Color Universal Design (2008), without yellow, which is faint on white.
BLACK = "#000000"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", BLACK)
DASHES: tuple[Any, ...] = (
    "-",
    (0, (6, 2)),
    (0, (2, 1.4)),
    (0, (8, 2, 2, 2)),
    (0, (1, 1.6)),
    (0, (10, 3)),
    (0, (4, 1, 1, 1, 1, 1)),
)
USUAL_MODES = ("zero_grad", "no_zero_grad", "halve_grad")  # always in the same colours
NOT_IMPOSED = {"no": "not imposed", "approximate": "approximate"}  # by what a record says of the mode of a script


class Line(NamedTuple):
    """A curve of the figure: its name, its runs, their median and range, its colour and dash."""

    name: str
    runs: list[tuple[RunRecord, Sequence[Row]]]
    band: curves.Band
    colour: str
    dash: Any
    covered_by: int = 0  # number of later curves on top of it; it is drawn pale, and wider for more of them
    raw: curves.Band | None = None  # the curve before it was smoothed
    block: int = 1  # number of points that each of its points stands for

    @property
    def seeds(self) -> int:
        """The number of runs in the curve."""
        return len(self.runs)

    @property
    def finite(self) -> int:
        """The number of points before the first that is not finite or exceeds 10¹⁰⁰."""
        return finite_points(self.band)


def finite_points(band: curves.Band) -> int:
    """Return the number of points before the first that is not finite or exceeds 10¹⁰⁰."""
    return next((nth for nth, y in enumerate(band.median) if not abs(y) < HUGE), len(band.median))


def lines_of(runs: Sequence[tuple[RunRecord, Sequence[Row]]], axis: curves.Axis) -> list[Line]:
    """Return a line for each group of runs that share all settings except the seed."""
    groups: dict[tuple[tuple[str, str], ...], list[tuple[RunRecord, Sequence[Row]]]] = {}
    for record, rows in runs:
        traits = {**flattened(record.settings), "experiment": record.experiment, "mode": record.mode}
        traits.pop("seed", None)
        groups.setdefault(tuple(sorted(traits.items())), []).append((record, rows))
    traits_of_groups = [dict(key) for key in groups]
    differing = distinguishing_settings(traits_of_groups)
    names = setting_names({trait for traits in traits_of_groups for trait in traits})
    lines: list[Line] = []
    for traits, members in zip(traits_of_groups, groups.values(), strict=True):
        found = {str(record.compared.get("imposed")) for record, _ in members}
        settings = [text for how, text in NOT_IMPOSED.items() if how in found][:1]
        settings += [_labelled(trait, names[trait], traits[trait]) for trait in differing if trait in traits]
        band = curves.band([curves.curve(rows, axis) for _, rows in members])
        colour, dash = colour_and_dash(traits["mode"], [each["mode"] for each in traits_of_groups], lines)
        lines.append(Line(", ".join([traits["mode"], *settings]), members, band, colour, dash))
    return [
        line._replace(covered_by=sum(_covers(other, line) for other in lines[nth:]))
        for nth, line in enumerate(lines, 1)
    ]


def _labelled(trait: str, name: str, value: str) -> str:
    """Return a setting as in a label; an experiment needs no word before its name."""
    return value if trait == "experiment" else f"{name}\N{NO-BREAK SPACE}{value}"


def coinciding(lines: Sequence[Line]) -> list[list[str]]:
    """Return the names of curves that lie on top of each other, in groups."""
    groups: list[list[Line]] = []
    for line in lines:
        group = next((each for each in groups if _covers(line, each[-1]) or _covers(each[-1], line)), None)
        if group is None:
            groups.append([line])
        else:
            group.append(line)
    return [[line.name for line in group] for group in groups if len(group) > 1]


def _covers(upper: Line, lower: Line) -> bool:
    """Return whether the upper curve hides the lower one: they are within one percent everywhere."""
    n = len(lower.band.x)
    if list(upper.band.x[:n]) != list(lower.band.x):
        return False
    ys = [(y, z) for y, z in zip(lower.band.median, upper.band.median[:n], strict=True) if abs(y) < HUGE]
    return bool(ys) and all(math.isclose(y, z, rel_tol=0.01) for y, z in ys)


def colour_and_dash(mode: str, modes: Sequence[str], drawn: Sequence[Line]) -> tuple[str, Any]:
    """Return the colour of the mode, equal for all its curves, and a dash not yet used with that colour."""
    if mode == AS_WRITTEN:  # always black
        return BLACK, (0, (3, 1, 1, 1))  # of no mode
    others = [each for each in dict.fromkeys(modes) if each not in (*USUAL_MODES, AS_WRITTEN)]
    free = [nth for nth in range(len(USUAL_MODES), len(COLOURS)) if COLOURS[nth] != BLACK or AS_WRITTEN not in modes]
    if len(others) > len(free):  # use the colours of usual modes that are not in this picture
        free += [nth for nth, each in enumerate(USUAL_MODES) if each not in modes]
    nth = USUAL_MODES.index(mode) if mode in USUAL_MODES else free[others.index(mode) % len(free)]
    colour = COLOURS[nth]
    taken = [line.dash for line in drawn if line.colour == colour]
    dashes = [DASHES[(nth + shift) % len(DASHES)] for shift in range(len(DASHES))]
    return colour, next((dash for dash in dashes if dash not in taken), dashes[0])
