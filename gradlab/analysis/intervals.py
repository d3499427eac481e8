"""Paired differences over seeds, with their 95 % confidence interval."""

from __future__ import annotations

import math
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

# Student's t (1908), the 97.5 % quantile for 1 to 30 degrees of freedom.
_T975 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip


class Difference(NamedTuple):
    """A mean difference and half the width of its 95 % interval."""

    mean: float
    half_width: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return abs(self.mean) > self.half_width

    def rounded(self) -> tuple[str, str]:
        """Return both with two digits, or more if needed to show that the interval excludes 0."""
        for digits in range(2, 18):
            mean, half = f"{self.mean:+.{digits}g}", f"{self.half_width:.{digits}g}"
            if not self.significant or abs(float(mean)) > float(half):
                break
        return mean, half


def paired_difference(these: Sequence[float], those: Sequence[float]) -> Difference | None:
    """Return the mean of these − those with its 95 % interval, paired by position (usually the seed).

    Return None for fewer than two pairs, or if a value is not finite.

    Raises:
        ValueError: the lengths differ.
    """
    differences = [this - that for this, that in zip(these, those, strict=True)]
    if len(differences) < 2 or not all(map(math.isfinite, differences)):
        return None
    half = t975(len(differences) - 1) * stdev(differences) / math.sqrt(len(differences))
    return Difference(fmean(differences), half)


def t975(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t: exact to four decimals up to 30 degrees of freedom, then to 0.004."""
    if freedom <= len(_T975):
        return _T975[freedom - 1]
    z = NormalDist().inv_cdf(0.975)
    return z + (z**3 + z) / (4 * freedom)  # first term of Fisher's expansion
