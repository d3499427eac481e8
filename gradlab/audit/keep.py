"""Keep, as measured; and the mode that this amounts to."""

from __future__ import annotations

import math
from operator import mul
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from gradlab import modes
from gradlab.audit.history import BACKWARDS, CLEARED, backwards_in, gathered_in, own_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradlab.audit.history import OptimizerHistory

ELEMENTS = 16  # of a gradient that are looked at, spread evenly over it
ALIKE = 0.01  # shares that differ by no more are one: half precision rounds at 0.001
OFF = 1e-3  # how far, squared and relative, a content may be off a multiple of the gradient and still be its share

Sample = tuple[Any, ...] | None  # a few elements, real or complex, of a `.grad`; None where that is None


class Keep(NamedTuple):
    """The share of the last update's gradient that was left, over parameters and updates."""

    median: float
    min: float
    max: float

    @property
    def steady(self) -> bool:
        """Whether it is one number rather than several."""
        return self.max - self.min <= ALIKE


def sample(grad: Any) -> Sample:
    """Return a few elements of a gradient as numbers; nothing is kept of the tensor.

    Of a sparse one, elements of its values: the next content has the same indices if it is what was kept.
    """
    if grad is None:
        return None
    import torch

    if grad.requires_grad:
        grad = grad.detach()
    if type(grad) is not torch.Tensor and hasattr(
        grad, "to_local"
    ):  # a DTensor: asking for all of it would talk to other processes
        grad = grad.to_local()
    if grad.is_cuda and torch.cuda.is_current_stream_capturing():
        return ()
    if grad.layout != torch.strided:
        if grad.layout != torch.sparse_coo:
            return ()
        grad = grad._values()  # noqa: SLF001 - values() wants it coalesced, which costs a copy
    size = grad.numel()
    stride = max(1, size // ELEMENTS)
    count = min(size, ELEMENTS)
    spread = grad.as_strided((count,), (stride,)) if grad.is_contiguous() else grad.reshape(-1)[::stride][:count]
    return tuple(spread.tolist())


def share(now: Sample, then: Sample) -> float | None:
    """Return k = ⟨now, then⟩/‖then‖²; None where `then` is nothing, or `now` is not a multiple of it.

    >>> share((1.0, 2.0), (2.0, 4.0)), share(None, (2.0, 4.0)), share((1.0, -2.0), (2.0, 4.0))
    (0.5, 0.0, None)
    """
    if not then or not any(then):
        return None
    if now is None:
        return 0.0
    square = inner(then, then)
    if len(now) != len(then) or not 0 < square < math.inf:
        return None
    if now == then:  # not worth more time
        return 1.0
    along = inner(now, then) / square
    off = sum(abs(a - along * b) ** 2 for a, b in zip(now, then, strict=True))
    return along if off <= OFF * square else None


def inner(a: Sample, b: Sample) -> float:
    """Return the real part of the inner product, 0 where one is nothing."""
    if not a or not b:
        return 0.0
    if isinstance(a[0], complex) or isinstance(b[0], complex):
        return float(sum((x * y.conjugate()).real for x, y in zip(a, b, strict=False)))
    return cast("float", sum(map(mul, a, b)))


def keep_of(history: OptimizerHistory) -> Keep | None:
    """Return keep as it was measured, None where it never was."""
    shares = [each for measured in history.measured for each in measured.kept]
    return Keep(median(shares), min(shares), max(shares)) if shares else None


def backwards_per_update(history: OptimizerHistory) -> int | None:
    """Return the median number of backward passes an update."""
    return _median_over(history, backwards_in)


def mode_of(history: OptimizerHistory) -> str | None:
    """Return the word of the mode that the script trains in, None where no one mode tells it.

    Several losses, each with a line of its own, before one step are parts of one loss, and no accumulation.
    """
    keep, every = keep_of(history), _median_over(history, gathered_in)
    if keep is None or every is None or not keep.steady or (keep.median > ALIKE and _cleared_at_times(history)):
        return None
    lines = int(median([each.lines for each in history.measured if each.lines] or [1]))
    return _word(keep.median, max(1, every // lines if lines > 1 and every % lines == 0 else every))


def _cleared_at_times(history: OptimizerHistory) -> bool:
    return any(letter in trace for trace, _ in history.traces() for letter in CLEARED)


def _word(kept: float, every: int) -> str:
    near = next((plain for plain in (0.0, 0.5, 1.0) if abs(kept - plain) <= ALIKE), float(f"{kept:.3g}"))
    if every > 1:
        return (modes.rule(near, every) if near else modes.accumulate(every)).name
    named = {0.0: modes.zero_grad, 0.5: modes.halve_grad, 1.0: modes.no_zero_grad}
    if near in named:
        return named[near]().name
    return (modes.decay(near) if 0 < near < 1 else modes.rule(near)).name


def _median_over(history: OptimizerHistory, count: Callable[[str], int]) -> int | None:
    """Return the median over updates of what `count` tells of their traces; those without a backward pass aside."""
    counted = sorted(_counted(history, count))
    half, passed = sum(times for _, times in counted) / 2, 0
    for value, times in counted:
        passed += times
        if passed >= half:
            return value
    return None


def _counted(history: OptimizerHistory, count: Callable[[str], int]) -> Iterator[tuple[int, int]]:
    for trace, times in history.traces():
        if any(letter in own_part(trace) for letter in BACKWARDS):
            yield count(trace), times
