"""What is left of the gradient on the way to an update that is measured."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

from gradlab.audit.history.history import MeasuredUpdate
from gradlab.audit.recording.samples import UNCHANGED, all_are_zero, inner, is_zero, share

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from gradlab.audit.recording.samples import Probes, Sample


class UpdateMeasurement:
    """Samples of the gradients at each backward pass of a window, as shares of what they were before."""

    def __init__(self, last: list[Sample] | None) -> None:
        self._last = last  # of the last update's gradient
        self._after: list[Sample] | None = None  # what the latest backward pass left
        self._kept: list[float | None] = []
        self._joins: list[float] = []
        self._weights: Sample = None
        self._moved = False
        self._single = False  # one pass so far, before which there was no gradient

    def weights_are(self, weights: Sample) -> None:
        """Note the weights before a backward pass: whether they have changed since the last one of this window."""
        self._moved |= self._after is not None and self._weights is not None and weights != self._weights
        self._weights = weights

    def backward_ended(self, before: list[Sample], after: list[Sample]) -> None:
        """Compare what a backward pass found in `.grad`, and take what it left."""
        self._single = self._after is None and not any(before)
        if self._after is None:
            self._kept = [share(b, g) for b, g in zip(before, self._last or (), strict=False)]
        else:
            shares = [share(b, a) for b, a in zip(before, self._after, strict=False)]
            self._kept = [
                kept if part is None or kept is None else kept * part
                for kept, part in zip(self._kept, shares, strict=False)
            ]
            known = [part for part in shares if part is not None]
            self._joins += [median(known)] if known else []
        self._after = after

    def forget_shares(self) -> None:
        """Forget them: the pass that the step came in is not over, nor is its gradient whole."""
        self._kept, self._joins = [], []

    def result(
        self, update: int, found: list[Sample], parameters: Iterable[Tensor], probes: Probes, lines: int
    ) -> MeasuredUpdate:
        """Return what was measured, given the samples that the step found."""
        after = self._after or []
        kept = tuple(part for part in self._kept if part is not None)
        unchanged = self._single and after == found
        probes.unchanged = probes.unchanged + 1 if unchanged else 0
        if unchanged and probes.unchanged > UNCHANGED:  # nothing was read
            return MeasuredUpdate(update, kept, (), 1.0, 1.0, lines=lines)
        ss = sum(inner(each, each) for each in found)
        aa, sa = ss, ss
        if after != found:
            aa = sum(inner(each, each) for each in after)
            sa = sum(inner(s, a) for s, a in zip(found, after, strict=False))
        nothing = all(map(is_zero, found))
        empty = nothing and all_are_zero(p.grad for p in parameters if p.grad is not None)  # not frozen layers alone
        known = 0 < aa < math.inf and ss < math.inf and nothing == empty
        size = sa / aa if known else None
        cosine = sa / math.sqrt(aa * ss) if known and ss else None
        return MeasuredUpdate(update, kept, tuple(self._joins), size, cosine, empty, self._moved, lines)
