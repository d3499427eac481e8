"""Numbers of runs: points in the product of the axes, then modes, then seeds, these fastest."""

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
        number: of the run, from 0.
        values: of the axes, in their order.
        mode: of the run, not loaded.
        seed: of the run.
    """

    number: int
    values: tuple[Any, ...]
    mode: Mode
    seed: int


def decode(
    number: int, axes: Mapping[str, Sequence[Any]], chosen: Sequence[M], seeds: Sequence[int]
) -> tuple[tuple[Any, ...], M | Mode, int]:
    """Return the values of the axes, the mode and the seed of a run.

    Args:
        number: of the run, from 0.
        axes: key and values of each, in order.
        chosen: the modes; where there are none, keep and every of the point are the mode.
        seeds: of the runs of a mode.
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
    """Return the function from a number to the values of the axes, the name of the mode and the seed of that run."""
    axes = record.values

    def run_at(number: int) -> tuple[tuple[Any, ...], str, int]:
        values, mode, seed = decode(number, axes, record.modes, record.seeds)
        return values, mode if isinstance(mode, str) else mode.name, seed

    return run_at


def mode_at(point: Mapping[str, Any]) -> Mode:
    """Return the mode that keep and every make at a point, given as values by key."""
    return _rule(point.get("keep", 0.0), point.get("every", 1))


_rule = lru_cache(maxsize=10_000)(modes.rule)  # one object for all runs of a mode, which pickle writes once
