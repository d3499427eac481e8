"""The panels of a sweep's picture: from its columns to maps over two axes, or to curves over one. Numbers only."""

from __future__ import annotations

import math
from itertools import product
from statistics import median_low
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.errors import PlotError, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_PANELS = 6
DIVERGED = 0.5  # of the seeds: above it a cell counts as diverged
_LR, _KEEP = ("lr", "optimizer.lr"), ("keep",)
_SAME_EDGE = {"batch_size", "steps", "epochs", "every"}  # panels over these have the λ of the full batch in common

Numbers = list[float | None]  # None where there is no run


class Phase(NamedTuple):
    """A map: what came of the runs over two axes.

    Attributes:
        title: what tells this panel from others; "" for one alone.
        x_key: what varies from left to right, in the words of the experiment file.
        x: shape (nx,); ascending.
        y_key: what varies from bottom to top.
        y: shape (ny,); ascending.
        loss: shape (ny, nx); the last loss, inf where it is not finite; None without a run. It is the median over the
            seeds, the lower of two: where half of them diverge, the mean of the two would be that of neither kind.
        diverged: shape (ny, nx); the share of the seeds that diverged, 0 to 1; None without a run.
        edges: λ of each seed, of which the edge of stability is drawn; none where the axes are not lr and keep.
        seeds: how many the medians are of.
    """

    title: str
    x_key: str
    x: Sequence[float]
    y_key: str
    y: Sequence[float]
    loss: Sequence[Sequence[float | None]]
    diverged: Sequence[Sequence[float | None]]
    edges: Sequence[float] = ()
    seeds: int = 1


class Section(NamedTuple):
    """A curve over one axis: last loss of a mode, median and range over the seeds, and the share that diverged."""

    mode: str
    median: Numbers
    low: Numbers
    high: Numbers
    diverged: Numbers


class Profile(NamedTuple):
    """Curves: what came of the runs over one axis, one curve a mode; else as a `Phase`."""

    title: str
    x_key: str
    x: Sequence[float]
    sections: Sequence[Section]
    edges: Sequence[float] = ()
    seeds: int = 1


def panels_of(
    axes: Mapping[str, Sequence[Any]],
    modes: Sequence[str],
    seeds: Sequence[int],
    *,
    status: Sequence[str | None],
    verdict: Sequence[str | None],
    last_loss: Sequence[float | None],
    edges: Sequence[float] = (),
) -> list[Phase] | list[Profile]:
    """Return the panels of a sweep: maps where two axes or more have numbers, else curves.

    The lr goes from left to right and keep from bottom to top where they vary, else the axes in the order given. What
    else varies, modes included, tells the panels apart; the modes of curves share a panel.

    Args:
        axes: what is varied, and its values.
        modes: one where keep or every is varied.
        seeds: of each mode at each point.
        status: of each run: done or failed, None where it is not there. Runs are in the order of the product of the
            axes, the last fastest, then the modes, then the seeds; so are the other columns. A run that is not done
            counts as not there.
        verdict: of each run.
        last_loss: of each run.
        edges: λ of each seed, where the optimizer is plain SGD; used where the edge is known: over lr and keep, and
            over lr alone for modes of a known keep.

    Raises:
        PlotError: no axis has numbers to draw along, or there would be too many panels.
    """
    table = _Table(axes, modes, seeds, status, verdict, last_loss)
    across, apart = check_axes(axes, modes)
    own_edge = across[0] in _LR and all(_word(key) in _SAME_EDGE for key in apart)
    known = [each for each in edges if 0 < each < math.inf] if own_edge else []
    panels = [dict(zip(apart, values, strict=True)) for values in product(*apart.values())]
    if len(across) == 1:
        return [_profile(table, across[0], at, known) for at in panels]
    return [_phase(table, across[0], across[1], at, known if across[1] in _KEEP else []) for at in panels]


def check_axes(axes: Mapping[str, Sequence[Any]], modes: Sequence[str]) -> tuple[list[str], dict[str, list[Any]]]:
    """Return along which axes, one or two, a sweep is drawn, and what tells its panels apart.

    Raises:
        PlotError: no axis has numbers to draw along, or there would be too many panels.
    """
    varied = {key: list(values) for key, values in axes.items() if len(values) > 1}
    numeric = sorted((key for key in varied if _are_numbers(varied[key])), key=_place)
    if not numeric:
        raise PlotError("there is no axis to draw along: vary a number, such as --vary lr=0.001:1:9:log")
    across = numeric[:2]
    if len(across) == 2 and across[0] in _KEEP:
        across.reverse()
    apart = {key: values for key, values in varied.items() if key not in across}
    if len(across) == 2 and len(modes) > 1:
        apart["mode"] = list(modes)
    _check_few(apart)
    return across, apart


class _Table(NamedTuple):
    """The columns of a sweep."""

    axes: Mapping[str, Sequence[Any]]
    modes: Sequence[str]
    seeds: Sequence[int]
    status: Sequence[str | None]
    verdict: Sequence[str | None]
    last_loss: Sequence[float | None]

    def cell(self, at: Mapping[str, Any]) -> tuple[list[float], float | None]:
        """Return the last losses of the seeds at a point and mode, and which share of them diverged."""
        index = 0
        for key, values in self.axes.items():
            index = index * len(values) + (list(values).index(at[key]) if key in at else 0)
        index = index * len(self.modes) + (self.modes.index(at["mode"]) if "mode" in at else 0)
        runs = range(index * len(self.seeds), (index + 1) * len(self.seeds))
        there = [
            (loss, run) for run in runs if self.status[run] == "done" and (loss := self.last_loss[run]) is not None
        ]
        if not there:
            return [], None
        share = sum(self.verdict[run] == "diverges" for _, run in there) / len(there)
        return [loss if math.isfinite(loss) else math.inf for loss, _ in there], share


def _phase(table: _Table, x_key: str, y_key: str, at: dict[str, Any], edges: Sequence[float]) -> Phase:
    x, y = sorted(table.axes[x_key]), sorted(table.axes[y_key])
    cells = [[table.cell({**at, x_key: right, y_key: up}) for right in x] for up in y]
    loss = [[median_low(losses) if losses else None for losses, _ in row] for row in cells]
    diverged = [[share for _, share in row] for row in cells]
    return Phase(_title(at), x_key, x, y_key, y, loss, diverged, edges, len(table.seeds))


def _profile(table: _Table, x_key: str, at: dict[str, Any], edges: Sequence[float]) -> Profile:
    x = sorted(table.axes[x_key])
    sections = []
    for mode in table.modes:
        cells = [table.cell({**at, x_key: right, "mode": mode}) for right in x]
        middle, low, high = ([of(losses) if losses else None for losses, _ in cells] for of in (median_low, min, max))
        sections.append(Section(mode, middle, low, high, [share for _, share in cells]))
    return Profile(_title(at), x_key, x, sections, edges, len(table.seeds))


def _check_few(apart: Mapping[str, Sequence[Any]]) -> None:
    """Raise PlotError where what is varied besides the axes makes more panels than can be read."""
    number = math.prod(map(len, apart.values()))
    if number > MOST_PANELS:
        what = " × ".join(f"{len(values)} of {shortened(key)}" for key, values in apart.items())
        raise PlotError(
            f"{number} panels ({what}) are too many to read, at most {MOST_PANELS}\n"
            f"sweep fewer values of {' and '.join(map(shortened, apart))}, each rest in a sweep of its own"
        )


def _place(key: str) -> int:
    return 0 if key in _LR else 1 if key in _KEEP else 2


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)


def _word(key: str) -> str:
    """Return the end of a key, by which it is called in a picture."""
    return key.rpartition(".")[2]


def _title(at: Mapping[str, Any]) -> str:
    """Return what tells a panel from others, such as `batch_size=40`."""
    words = [str(value) if key == "mode" else f"{_word(key)}={_short(value)}" for key, value in at.items()]
    return shortened(", ".join(words))


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
