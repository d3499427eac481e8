"""Measured keep, and the mode that it corresponds to."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from gradlab import modes
from gradlab.audit.history.trace import BACKWARDS, CLEARED, backwards_in, clipped_between, gathered_in, own_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.audit.history.history import OptimizerHistory
    from gradlab.audit.history.loss import Loss

ALIKE = 0.01  # shares that differ by at most this count as equal; half precision rounds at 0.001


class MeasuredKeep(NamedTuple):
    """The share of the last update's gradient that was left, over all parameters and updates."""

    median: float
    min: float
    max: float

    @property
    def steady(self) -> bool:
        """Whether all shares are equal."""
        return self.max - self.min <= ALIKE


def keep_of(history: OptimizerHistory) -> MeasuredKeep | None:
    """Return the measured keep, or None if it was never measured.

    GradScaler's unscale_() divides all of `.grad`, so it also divides what was kept.
    """
    shares = [each / measured.scale for measured in history.measured for each in measured.kept]
    return MeasuredKeep(median(shares), min(shares), max(shares)) if shares else None


def scale_of_kept(history: OptimizerHistory) -> float:
    """Return what a GradScaler divides kept gradients by; 1 if none does, or if nothing is kept."""
    scales = [each.scale for each in history.measured if each.kept and max(map(abs, each.kept)) > ALIKE]
    return median(scales) if scales else 1.0


def backwards_per_update(history: OptimizerHistory) -> int | None:
    """Return the median number of backward passes per update."""
    return _median_over(history, backwards_in)


def passes_of(history: OptimizerHistory) -> int:
    """Return the number of backward passes that led to updates."""
    return sum(times * backwards_in(trace) for trace, times in history.traces())


def gathered_per_update(history: OptimizerHistory) -> int | None:
    """Return the median number of backward passes since the last clearing."""
    return 1 if emptied_between(history) else _median_over(history, gathered_in)


def emptied_between(history: OptimizerHistory) -> bool:
    """Say whether gradients were always empty at the second and later backward passes of an update.

    Clipping a scaled gradient between two passes leaves very little of it, but more than nothing.
    """
    joins = [each.joins for each in history.measured if each.joins]
    almost = 0 if any(clipped_between(trace) for trace, _ in history.traces()) else ALIKE
    return bool(joins) and max(map(max, joins)) <= almost and min(map(min, joins)) >= -almost


def mode_of(history: OptimizerHistory) -> str | None:
    """Return the name of the script's mode, or None if no single mode fits.

    Several losses of one batch are parts of one loss, not accumulation.
    """
    keep, every = keep_of(history), gathered_per_update(history)
    if keep is None or every is None or not keep.steady or (keep.median > ALIKE and _cleared_at_times(history)):
        return None
    losses = _losses_of_one_batch(history, every)
    exact = scale_of_kept(history) > 1
    return _mode_name(keep.median, every // losses, mean=losses > 1 or not summed(history, every), exact=exact)


def _losses_of_one_batch(history: OptimizerHistory, every: int) -> int:
    """Return how many of `every` backward passes belong to one batch: 1 if they accumulate."""
    lines, batches = int(median([each.lines for each in history.measured if each.lines] or [1])), history.batches
    if losses := losses_apart(history):
        return losses if every % losses == 0 else every
    if of_micro_batches(history, every):
        return 1
    if lines > 1:
        return lines if every % lines == 0 else 1
    return every // batches if batches and every % batches == 0 else 1


def of_micro_batches(history: OptimizerHistory, every: int) -> bool:
    """Say whether the backward passes of an update may belong to as many micro-batches, not several losses of one.

    Several losses have a line each, or come from a loop over one batch. Passes that reach different parameters belong
    to different losses. Losses divided by the number of passes belong to micro-batches, such as parts of a batch. With
    DDP's no_sync() they come from two lines. Two losses with a factor of ½ may be either.
    """
    if losses_apart(history):
        return False
    found = losses_of(history, every)
    divided = bool(found) and all(loss.over(every) for loss, _, _ in found)
    lines = [each.lines for each in history.measured]
    if any(each > 1 for each in lines):
        return divided and every > 2
    unknown = bool(lines) and not any(lines)  # without known lines
    return divided or (history.batches >= every if unknown else not 0 < history.batches < every)


def losses_apart(history: OptimizerHistory) -> int:
    """Return the number of losses per update if they reach different parameters, else 0."""
    return history.seen.losses if history.seen.apart and not history.seen.together else 0


def losses_of(history: OptimizerHistory, every: int) -> list[tuple[Loss, int, int]]:
    """Return the losses of windows with `every` backward passes: scale, number of windows, first update."""
    return [(loss, times, first) for (passes, loss), (times, first) in history.losses.items() if passes == every]


def summed(history: OptimizerHistory, every: int) -> bool:
    """Say whether the losses of a window are summed: nothing divides them or their gradient."""
    found = losses_of(history, every)
    return bool(found) and all(loss.undivided for loss, _, _ in found) and not scaled_by_hand(history)


def scaled_by_hand(history: OptimizerHistory) -> bool:
    """Say whether the script rescales gradients before the step, other than by clipping or GradScaler."""
    sizes = [each.size for each in history.measured if each.size is not None and not each.empty]
    rescaled = any(letter in trace for trace, _ in history.traces() for letter in "cu")
    return bool(sizes) and not rescaled and abs(median(sizes) - 1) > ALIKE


def _cleared_at_times(history: OptimizerHistory) -> bool:
    """Say whether several updates are cleared: once, such as before the loop, is not at times."""
    return sum(times for trace, times in history.traces() if any(letter in trace for letter in CLEARED)) > 1


def _mode_name(kept: float, every: int, *, mean: bool, exact: bool) -> str:
    plain = () if exact else (0.0, 0.5, 1.0)
    near = next((each for each in plain if abs(kept - each) <= ALIKE), float(f"{kept:.3g}"))
    if every > 1:
        return (modes.rule(near, every, mean=mean) if near else modes.accumulate(every, mean=mean)).name
    named = {0.0: modes.zero_grad, 0.5: modes.halve_grad, 1.0: modes.no_zero_grad}
    if near in named:
        return named[near]().name
    return (modes.decay(near) if 0 < near < 1 else modes.rule(near)).name


def _median_over(history: OptimizerHistory, count: Callable[[str], int]) -> int | None:
    """Return the median of `count(trace)` over all updates with a backward pass."""
    counted: Counter[int] = Counter()
    for trace, times in history.traces():
        if any(letter in own_part(trace) for letter in BACKWARDS):
            counted[count(trace)] += times
    passed = 0
    for value in sorted(counted):
        passed += counted[value]
        if 2 * passed >= counted.total():
            return value
    return None
