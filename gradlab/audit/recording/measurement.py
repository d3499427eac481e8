"""Measurement of an update: the share of the gradient that is left at its backward passes."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

from gradlab.audit.history.history import MeasuredUpdate
from gradlab.audit.history.keep import ALIKE
from gradlab.audit.recording.noise import MOST_PASSES, noise_in
from gradlab.audit.recording.samples import UNCHANGED, all_are_zero, inner, is_zero, share

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

    from gradlab.audit.recording.samples import Probes, Sample


class UpdateMeasurement:
    """Samples of the gradients at the backward passes of a window, as shares of earlier gradients."""

    def __init__(self, last: list[Sample] | None, weights: Sample = None) -> None:
        self._last = last  # samples of the last update's gradient
        self._after: list[Sample] | None = None  # samples after the latest backward pass
        self._passes: list[list[Sample]] = []  # samples after the first backward passes
        self._kept: list[float | None] = []
        self._joins: list[float] = []
        self._weights = weights  # at the latest backward pass, at first after the last step
        self._last_weights: Sample = None  # of the last parameter, at the latest backward pass
        self._all_moved = False  # the last parameter also changed between two backward passes
        self._first_elsewhere = weights is None  # weights changed between the last step and the first backward pass
        self.moved = False  # weights changed between two backward passes
        self._plain = False  # no gradient before the first pass, nothing changed it before the later ones

    def weights_are(self, weights: Sample, last: Sample) -> None:
        """Record whether weights changed since the last backward pass of this window, or since the last step.

        `last` is a sample of the last parameter. An attack on an embedding does not move it.
        """
        self._all_moved |= self._after is not None and last != self._last_weights
        self._last_weights = last
        self._first_elsewhere |= self._after is None and weights != self._weights
        self.moved |= self._after is not None and self._weights is not None and weights != self._weights
        self._weights = weights

    def backward_ended(self, before: list[Sample], after: list[Sample]) -> None:
        """Record samples of `.grad` before and after a backward pass."""
        self._plain = not any(before) if self._after is None else self._plain and before == self._after
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
        if len(self._passes) <= MOST_PASSES:
            self._passes.append(after)

    def forget_shares(self) -> None:
        """Forget the shares, because the step came inside a backward pass, with an incomplete gradient."""
        self._kept, self._joins = [], []

    def result(
        self, update: int, found: list[Sample], parameters: Iterable[Tensor], probes: Probes, lines: int
    ) -> MeasuredUpdate:
        """Return the measurement, given the samples at the step."""
        after = self._after or []
        if self._after is None and self._last and not probes.replaced:
            again = [share(now, then) for now, then in zip(found, self._last, strict=False) if not is_zero(then)]
            positive = [part for part in again if part is not None and 0 < part <= 1 + ALIKE]
            if again and len(positive) == len(again):
                return MeasuredUpdate(update, again=min(positive))
        kept = tuple(part for part in self._kept if part is not None)
        unchanged = self._plain and after == found
        probes.unchanged = probes.unchanged + 1 if unchanged else 0
        away, joins = self.moved and self._all_moved and not self._first_elsewhere, tuple(self._joins)
        if unchanged and probes.unchanged > UNCHANGED:  # no elements were read
            return MeasuredUpdate(update, kept, joins, 1.0, 1.0, moved=self.moved, lines=lines, away=away)
        ss = sum(inner(each, each) for each in found)
        aa, sa = ss, ss
        if after != found:
            aa = sum(inner(each, each) for each in after)
            sa = sum(inner(s, a) for s, a in zip(found, after, strict=False))
        nothing = all(map(is_zero, found))
        empty = nothing and all_are_zero(p.grad for p in parameters if p.grad is not None)  # not only frozen layers
        known = 0 < aa < math.inf and ss < math.inf and nothing == empty
        size = sa / aa if known else None
        cosine = sa / math.sqrt(aa * ss) if known and ss else None
        changed = size is not None and after != found
        noise = noise_in(found, self._passes) if changed and not probes.replaced else 0.0
        return MeasuredUpdate(update, kept, joins, size, cosine, empty, self.moved, lines, noise=noise, away=away)
