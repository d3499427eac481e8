"""The curves of a picture: runs that differ in their seed alone are one; what tells the others apart names them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import curves
from gradlab.rows import HUGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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


class Line(NamedTuple):
    """A curve of the picture: its name, one run or the median of several, and how it is drawn."""

    name: str
    runs: list[tuple[RunRecord, Sequence[Row]]]
    band: curves.Band
    colour: str
    dash: Any
    under: bool = False  # a later curve of its colour lies on it: drawn wide and pale, so that both are seen

    @property
    def seeds(self) -> int:
        """How many runs it is the median of."""
        return len(self.runs)

    @property
    def finite(self) -> int:
        """How many points come before the first that no axis can show: not finite, or beyond 10¹⁰⁰."""
        return finite_points(self.band)


def finite_points(band: curves.Band) -> int:
    """Return how many points come before the first that no axis can show: not finite, or beyond 10¹⁰⁰."""
    return next((nth for nth, y in enumerate(band.middle) if not abs(y) < HUGE), len(band.middle))


def lines_of(runs: Sequence[tuple[RunRecord, Sequence[Row]]], axis: curves.Axis) -> list[Line]:
    """Group the runs by all but their seed, name the groups by what tells them apart, and give each its looks."""
    groups: dict[tuple[tuple[str, str], ...], list[tuple[RunRecord, Sequence[Row]]]] = {}
    for record, rows in runs:
        traits = {**flat(record.settings), "experiment": record.experiment, "mode": record.mode}
        traits.pop("seed", None)
        groups.setdefault(tuple(sorted(traits.items())), []).append((record, rows))
    several = [dict(key) for key in groups]
    differing = _differing(several)
    lines: list[Line] = []
    for traits, members in zip(several, groups.values(), strict=True):
        told = [
            f"{trait.rpartition('.')[2]}\N{NO-BREAK SPACE}{traits[trait]}" for trait in differing if trait in traits
        ]
        band = curves.band([curves.curve(rows, axis) for _, rows in members])
        colour, dash = _look(traits["mode"], [each["mode"] for each in several], lines)
        lines.append(Line(", ".join([traits["mode"], *told]), members, band, colour, dash))
    return [
        line._replace(under=any(_coincide(line, other) for other in lines[nth:])) for nth, line in enumerate(lines, 1)
    ]


def _coincide(one: Line, other: Line) -> bool:
    """Say whether two curves of one colour could not be told apart: within a percent of each other everywhere."""
    if one.colour != other.colour or list(one.band.x) != list(other.band.x):
        return False
    ys = zip(one.band.middle, other.band.middle, strict=True)
    return all(math.isclose(y, z, rel_tol=0.01) for y, z in ys if abs(y) < HUGE)


def _look(mode: str, modes: Sequence[str], drawn: Sequence[Line]) -> tuple[str, Any]:
    """Return the colour of the mode, the same for all its curves, and a dash that no curve of that colour has yet."""
    order = [*USUAL, *dict.fromkeys(each for each in modes if each not in USUAL)]
    if len(order) > len(COLOURS):  # colours of usual modes that are not in this picture are free for others
        order = [each for each in order if each in modes]
    nth = order.index(mode)
    colour = COLOURS[nth % len(COLOURS)]
    taken = [line.dash for line in drawn if line.colour == colour]
    dashes = [DASHES[(nth + shift) % len(DASHES)] for shift in range(len(DASHES))]
    return colour, next((dash for dash in dashes if dash not in taken), dashes[0])


def _differing(groups: Sequence[dict[str, str]]) -> list[str]:
    """Return the traits besides the mode that tell the groups apart; the experiment alone where it does."""

    def kinds(traits: Iterable[str]) -> int:
        return len({tuple(group.get(trait) for trait in traits) for group in groups})

    known = sorted({trait for group in groups for trait in group} - {"mode", "task_source", "mode_source"})
    differing = [trait for trait in known if kinds([trait]) > 1]
    return ["experiment"] if differing and kinds(["experiment"]) == kinds(differing) else differing


def flat(settings: dict[str, Any], before: str = "") -> dict[str, str]:
    """Return the settings without nesting, as `{"optimizer.lr": "0.01", …}`."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= flat(value, f"{before}{key}.")
        else:
            found[before + key] = _plain(value) if isinstance(value, float) else str(value)
    return found


def _plain(value: float) -> str:
    """Return the number as short as it can be without becoming another: two learning rates are two curves."""
    return short if float(short := f"{value:g}") == value else repr(value)
