"""Run numbers: positions in the product of axes, modes and seeds; seeds vary fastest."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gradlab import modes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradlab.modes import Mode
    from gradlab.store import SweepRecord

M = TypeVar("M")


class Run(NamedTuple):
    """A run of a sweep: a point of the grid, a mode and a seed.

    Attributes:
        number: the run number, from 0.
        values: the axis values, in the order of the axes.
        mode: the mode, not loaded.
        seed: the seed.
    """

    number: int
    values: tuple[Any, ...]
    mode: Mode
    seed: int


def decode(
    number: int, axes: Mapping[str, Sequence[Any]], chosen: Sequence[M], seeds: Sequence[int]
) -> tuple[tuple[Any, ...], M | Mode, int]:
    """Return the axis values, the mode and the seed of a run.

    Args:
        number: the run number, from 0.
        axes: the values of each axis by key, in order.
        chosen: the modes; if empty, keep and every of the point define the mode.
        seeds: the seeds.
    """
    rest, seed = divmod(number, len(seeds))
    rest, nth_mode = divmod(rest, max(1, len(chosen)))
    values: list[Any] = []
    for each in reversed(list(axes.values())):
        rest, nth = divmod(rest, len(each))
        values.insert(0, each[nth])
    mode = chosen[nth_mode] if chosen else mode_at(dict(zip(axes, values, strict=True)))
    return tuple(values), mode, seeds[seed]


def numbering_of(record: SweepRecord) -> Callable[[int], tuple[tuple[Any, ...], str, int]]:
    """Return a function from a run number to the axis values, mode name and seed of the run."""
    axes = record.values

    def run_at(number: int) -> tuple[tuple[Any, ...], str, int]:
        values, mode, seed = decode(number, axes, record.modes, record.seeds)
        return values, mode if isinstance(mode, str) else mode.name, seed

    return run_at


def mode_at(point: Mapping[str, Any]) -> Mode:
    """Return the mode that keep and every define at a point, given as values by key."""
    return _rule(point.get("keep", 0.0), point.get("every", 1))


_rule = lru_cache(maxsize=10_000)(modes.rule)  # one object per mode, which pickle writes once
