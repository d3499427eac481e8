"""The curves of a picture: runs that differ in their seed alone are one; what tells the others apart names them."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.analysis import curves
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
    under: int = 0  # how many later curves lie on it: the more, the wider it is drawn, and pale, so that all are seen

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
    return next((nth for nth, y in enumerate(band.median) if not abs(y) < HUGE), len(band.median))


def lines_of(runs: Sequence[tuple[RunRecord, Sequence[Row]]], axis: curves.Axis) -> list[Line]:
    """Group the runs by all but their seed, name the groups by what tells them apart, and give each its looks."""
    groups: dict[tuple[tuple[str, str], ...], list[tuple[RunRecord, Sequence[Row]]]] = {}
    for record, rows in runs:
        traits = {**flat(record.settings), "experiment": record.experiment, "mode": record.mode}
        traits.pop("seed", None)
        groups.setdefault(tuple(sorted(traits.items())), []).append((record, rows))
    several = [dict(key) for key in groups]
    differing = _differing(several)
    words = _words({trait for traits in several for trait in traits})
    lines: list[Line] = []
    for traits, members in zip(several, groups.values(), strict=True):
        told = [f"{words[trait]}\N{NO-BREAK SPACE}{traits[trait]}" for trait in differing if trait in traits]
        band = curves.band([curves.curve(rows, axis) for _, rows in members])
        colour, dash = look(traits["mode"], [each["mode"] for each in several], lines)
        lines.append(Line(", ".join([traits["mode"], *told]), members, band, colour, dash))
    return [
        line._replace(under=sum(_hides(other, line) for other in lines[nth:])) for nth, line in enumerate(lines, 1)
    ]


def _hides(upper: Line, lower: Line) -> bool:
    """Say whether the lower curve would not be seen: wherever it is, the upper one is within a percent of it."""
    n = len(lower.band.x)
    if list(upper.band.x[:n]) != list(lower.band.x):
        return False
    ys = zip(lower.band.median, upper.band.median[:n], strict=True)
    return all(math.isclose(y, z, rel_tol=0.01) for y, z in ys if abs(y) < HUGE)


def look(mode: str, modes: Sequence[str], drawn: Sequence[Line]) -> tuple[str, Any]:
    """Return the colour of the mode, the same for all its curves, and a dash that no curve of that colour has yet."""
    others = [each for each in dict.fromkeys(modes) if each not in USUAL]
    free = list(range(len(USUAL), len(COLOURS)))
    if len(others) > len(free):  # colours of usual modes that are not in this picture are free for others
        free += [nth for nth, each in enumerate(USUAL) if each not in modes]
    nth = USUAL.index(mode) if mode in USUAL else free[others.index(mode) % len(free)]
    colour = COLOURS[nth]
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


def _words(known: Iterable[str]) -> dict[str, str]:
    """Return how each trait is called beside a curve: by the end of its key where no other has the same."""
    ends = Counter(trait.rpartition(".")[2] for trait in known)
    words = {trait: end if ends[end := trait.rpartition(".")[2]] == 1 else trait for trait in known}
    return words | {"optimizer.name": "optimizer"}


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
