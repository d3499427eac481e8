"""The panels of a sweep's figure: the numbers of maps over two axes, or of profiles over one."""

from __future__ import annotations

import math
from itertools import product
from statistics import median_low
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import modes as modes_
from gradlab.errors import ModeError, PlotError, shortened
from gradlab.plotting.colors import FALLBACK, is_drawn
from gradlab.plotting.differences import setting_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradlab.store import Results, SweepRecord

MAX_PANELS = 6
DIVERGED = 0.5  # share of seeds above which a cell counts as diverged
_LR, _KEEP = ("lr", "optimizer.lr"), ("keep",)
_SAME_SHARPNESS = {"batch_size", "steps", "epochs", "every"}  # the full batch's λ does not depend on these

Numbers = list[float | None]  # None without a run


class PhaseMap(NamedTuple):
    """The results of the runs over two axes.

    Attributes:
        title: the values that differ from other panels; "" for a single panel.
        x_key: the experiment's key that varies from left to right.
        x: shape (nx,); ascending.
        y_key: the experiment's key that varies from bottom to top.
        y: shape (ny,); ascending.
        loss: shape (ny, nx); the loss or metric that colours the cell, inf if not finite; None without a run. It is
            the lower median over the seeds: if half of them diverge, the mean of the two middle losses would describe
            neither half.
        diverged: shape (ny, nx); the share of seeds that diverged, 0 to 1; None without a run.
        sharpness: λ of each seed, for the edge of stability; empty if the axes are not lr and keep.
        seeds: the number of seeds per cell.
        color: the name of the column that `loss` shows.
    """

    title: str
    x_key: str
    x: Sequence[float]
    y_key: str
    y: Sequence[float]
    loss: Sequence[Sequence[float | None]]
    diverged: Sequence[Sequence[float | None]]
    sharpness: Sequence[float] = ()
    seeds: int = 1
    color: str = FALLBACK

    @property
    def cells(self) -> list[tuple[float | None, float | None]]:
        """The loss and the share of diverged seeds of each cell."""
        rows = zip(self.loss, self.diverged, strict=True)
        return [cell for losses, shares in rows for cell in zip(losses, shares, strict=True)]

    @property
    def shares(self) -> list[float | None]:
        """The share of diverged seeds of each cell."""
        return [share for row in self.diverged for share in row]


class ProfileCurve(NamedTuple):
    """The loss of a mode over one axis: median and range over the seeds, and the share that diverged."""

    mode: str
    median: Numbers
    low: Numbers
    high: Numbers
    diverged: Numbers
    keep: float | None = None  # the mode's keep if its edge of stability is known


class Profile(NamedTuple):
    """The results of the runs over one axis, one curve per mode; other fields as in `PhaseMap`."""

    title: str
    x_key: str
    x: Sequence[float]
    curves: Sequence[ProfileCurve]
    sharpness: Sequence[float] = ()
    seeds: int = 1
    color: str = FALLBACK

    @property
    def shares(self) -> list[float | None]:
        """The share of diverged seeds of each point."""
        return [share for curve in self.curves for share in curve.diverged]


def panels_of(
    axes: Mapping[str, Sequence[Any]],
    modes: Sequence[str],
    seeds: Sequence[int],
    *,
    status: Sequence[str | None],
    verdict: Sequence[str | None],
    loss: Sequence[float | None],
    color: str = FALLBACK,
    sharpness: Sequence[float] = (),
) -> list[PhaseMap] | list[Profile]:
    """Return the panels of a sweep: maps if at least two axes have numbers, else profiles.

    If they vary, lr goes from left to right and keep from bottom to top. Other axes follow in the given order. Every
    combination of the remaining values has its own panel, in maps also every mode.

    Args:
        axes: the varied keys and their values.
        modes: the modes; a single one if keep or every is varied.
        seeds: the seeds of each mode at each point.
        status: done, failed or None (missing) for each run. All columns are in the order of the product of the axes,
            the last axis fastest, then modes, then seeds. Only done runs are drawn.
        verdict: the verdict of each run.
        loss: the loss or metric of each run that gives the colour.
        color: its name.
        sharpness: λ of each seed if the optimizer is plain SGD. It gives the edge over lr and keep, and over lr for
            modes with a known keep.

    Raises:
        PlotError: no axis has numbers to draw along, or there are too many panels.
    """
    table = _Results(axes, modes, seeds, status, verdict, loss, color)
    across, apart = check_axes(axes, modes)
    edge_known = across[0] in _LR and all(_short_key(key) in _SAME_SHARPNESS for key in apart)
    known = [each for each in sharpness if 0 < each < math.inf] if edge_known else []
    panels = [dict(zip(apart, values, strict=True)) for values in product(*apart.values())]
    if len(across) == 1:
        return [_profile(table, across[0], at, known) for at in panels]
    return [_phase_map(table, across[0], across[1], at, known if across[1] in _KEEP else []) for at in panels]


def panels_of_sweep(record: SweepRecord, results: Results, color: str = FALLBACK) -> list[PhaseMap] | list[Profile]:
    """Return the panels of a recorded sweep, with this column as colour; see `panels_of`."""
    return panels_of(
        record.values,
        record.modes or ["the rule"],
        record.seeds,
        status=results.column("status", record.runs),
        verdict=results.column("verdict", record.runs),
        loss=results.column(color, record.runs),
        color=color,
        sharpness=(record.sharpness or {}).get("eigenvalues", []),
    )


def check_axes(axes: Mapping[str, Sequence[Any]], modes: Sequence[str]) -> tuple[list[str], dict[str, list[Any]]]:
    """Return the one or two axes along which a sweep is drawn, and the others, which are split into panels.

    Raises:
        PlotError: no axis has numbers to draw along, or there are too many panels.
    """
    varied = {key: list(values) for key, values in axes.items() if len(values) > 1}
    numeric = sorted((key for key in varied if _all_numbers(varied[key])), key=_axis_order)
    if not numeric:
        raise PlotError("No axis to draw along. Vary a number, such as lr.")
    across = numeric[:2]
    if len(across) == 2 and across[0] in _KEEP:
        across.reverse()
    apart = {key: values for key, values in varied.items() if key not in across}
    if len(across) == 2 and len(modes) > 1:
        apart["mode"] = list(modes)
    _check_few(apart)
    return across, apart


class _Results(NamedTuple):
    """The columns of a sweep."""

    axes: Mapping[str, Sequence[Any]]
    modes: Sequence[str]
    seeds: Sequence[int]
    status: Sequence[str | None]
    verdict: Sequence[str | None]
    loss: Sequence[float | None]
    color: str

    def cell(self, at: Mapping[str, Any]) -> tuple[list[float], float | None]:
        """Return the seeds' losses at a point and mode, and the share that diverged."""
        index = 0
        for key, values in self.axes.items():
            index = index * len(values) + (list(values).index(at[key]) if key in at else 0)
        index = index * len(self.modes) + (self.modes.index(at["mode"]) if "mode" in at else 0)
        runs = range(index * len(self.seeds), (index + 1) * len(self.seeds))
        done = [
            (loss, run)
            for run in runs
            if self.status[run] == "done"
            and (loss := self.loss[run]) is not None
            and is_drawn(loss, self.verdict[run])
        ]
        if not done:
            return [], None
        share = sum(self.verdict[run] == "diverges" for _, run in done) / len(done)
        return [loss if math.isfinite(loss) else math.inf for loss, _ in done], share


def _phase_map(table: _Results, x_key: str, y_key: str, at: dict[str, Any], sharpness: Sequence[float]) -> PhaseMap:
    x, y = sorted(table.axes[x_key]), sorted(table.axes[y_key])
    cells = [[table.cell({**at, x_key: right, y_key: up}) for right in x] for up in y]
    loss = [[median_low(losses) if losses else None for losses, _ in row] for row in cells]
    diverged = [[share for _, share in row] for row in cells]
    return PhaseMap(_title(at), x_key, x, y_key, y, loss, diverged, sharpness, len(table.seeds), table.color)


def _profile(table: _Results, x_key: str, at: dict[str, Any], sharpness: Sequence[float]) -> Profile:
    x = sorted(table.axes[x_key])
    curves = []
    for mode in table.modes:
        cells = [table.cell({**at, x_key: right, "mode": mode}) for right in x]
        middle, low, high = ([of(losses) if losses else None for losses, _ in cells] for of in (median_low, min, max))
        curves.append(ProfileCurve(mode, middle, low, high, [share for _, share in cells], _known_keep(mode)))
    return Profile(_title(at), x_key, x, curves, sharpness, len(table.seeds), table.color)


def _known_keep(name: str) -> float | None:
    """Return the mode's keep if it follows the rule of keep and every on mean gradients, else None."""
    try:
        mode = modes_.parse(name)
    except ModeError:  # a user's mode whose file is gone
        return None
    return mode.keep if mode.own is None and mode.mean else None


def _check_few(apart: Mapping[str, Sequence[Any]]) -> None:
    """Raise PlotError for too many panels to read."""
    number = math.prod(map(len, apart.values()))
    if number > MAX_PANELS:
        what = " × ".join(f"{len(values)} of {shortened(key)}" for key, values in apart.items())
        raise PlotError(
            f"{number} panels ({what}) are too many to read. The limit is {MAX_PANELS}.\n"
            f"Sweep fewer values of {' and '.join(map(shortened, apart))}, and the others in a second sweep."
        )


def _axis_order(key: str) -> int:
    return 0 if key in _LR else 1 if key in _KEEP else 2


def _all_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)


def _short_key(key: str) -> str:
    """Return the last part of a key, which names it in figures."""
    return key.rpartition(".")[2]


def _title(at: Mapping[str, Any]) -> str:
    """Return the title of a panel, such as `batch_size=40`."""
    return shortened(", ".join(setting_text(key, value) for key, value in at.items()))
