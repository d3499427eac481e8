"""Noise in a step's gradient: what was added in place after the last backward pass of a window."""

from __future__ import annotations

import math
from operator import mul
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradlab.audit.recording.samples import Sample

MOST_PASSES = 8  # beyond, nothing is called noise
ALIGNED = 0.8  # least cosine of the angle between the gradient before and after
ROUNDING = 1e-3  # relative; half precision
ELEMENTS_PER_PASS = 4  # needed for that


def noise_in(found: list[Sample], passes: list[list[Sample]]) -> float:
    """Return the share of noise in what was added to the gradient of the last of several passes before the step.

    Gradients of earlier passes explain the rest: the script may combine them by hand. The share is 0 if `found`,
    the gradient at the step, is not close to the last pass's.

    >>> noisy = [(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.1, 0.9)]
    >>> earlier, last = [(1.0, 1.0, -1.0, -1.0, 1.0, 1.0, -1.0, -1.0)], [(1.0,) * 8]
    >>> mixed = [(1.1, 1.1, 0.9, 0.9, 1.1, 1.1, 0.9, 0.9)]
    >>> round(noise_in(noisy, [earlier, last]), 3), round(noise_in(mixed, [earlier, last]), 3)
    (1.0, 0.0)
    """
    if not 1 < len(passes) <= MOST_PASSES:
        return 0.0
    step, (last, *earlier) = _numbers(found), [_numbers(each) for each in reversed(passes)]
    if len(step) < ELEMENTS_PER_PASS * len(passes) or any(len(each) != len(step) for each in (last, *earlier)):
        return 0.0
    basis: list[list[float]] = []
    for each in (last, *earlier):
        rest = _without(each, basis)
        size = math.sqrt(_inner(rest, rest))
        if size > 1e-6 * math.sqrt(_inner(each, each)):
            basis.append([x / size for x in rest])
    if not basis or not _inner(last, step) > ALIGNED * math.sqrt(_inner(last, last) * _inner(step, step)):
        return 0.0
    added = _without(step, basis[:1])
    new = _without(added, basis[1:])
    size = _inner(added, added)
    return _inner(new, new) / size if size > ROUNDING**2 * _inner(step, step) else 0.0


def _numbers(samples: list[Sample]) -> list[float]:
    """Return the elements of all samples; none if one was not read or is complex."""
    numbers = [x for each in samples if isinstance(each, tuple) for x in each]
    return numbers if all(isinstance(x, float) and math.isfinite(x) for x in numbers) else []


def _inner(a: Sequence[float], b: Sequence[float]) -> float:
    return math.fsum(map(mul, a, b))


def _without(vector: list[float], basis: list[list[float]]) -> list[float]:
    """Return the part of a vector that is orthogonal to all vectors of an orthonormal basis."""
    for each in basis:
        along = _inner(vector, each)
        vector = [x - along * y for x, y in zip(vector, each, strict=True)]
    return vector
