"""Whether two ways of training computed the same curves, in float32, which each adds up in an order of its own.

A difference in the last bit stays one, but for two cases. Where an input of a ReLU is nearly 0, one way may find it
above and the other below: the gradients differ by a whole term, and momentum makes more of that. It happened to 3 of
96 curves with keep > 0.8 in 977 steps, one of which differed by 3 % then; to none with tanh in its place, and to none
in float64, which agrees within 10⁻¹⁴. And at keep = 1 all curves part on mini-batches, so that these are compared over
their first steps alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TOLERANCE = 1e-4  # of the curve's height
SHARE = 0.75  # of the curves must be as close as that at every step
ALIKE_FOR = 200  # steps at keep = 1: 10⁻⁵ by then, 10⁻² by step 500


def apart(ones: Iterable[Sequence[float]], others: Iterable[Sequence[float]], steps: int | None = None) -> list[float]:
    """Return the greatest difference of each pair of curves over their first `steps`, in heights of the curve."""
    return [
        max(abs(a - b) for a, b in zip(one[:steps], other[:steps], strict=True)) / max(map(abs, other[:steps]))
        for one, other in zip(ones, others, strict=True)
    ]


def agreed(differences: Sequence[float], who: str) -> str:
    """Say how close the curves are.

    Raises:
        AssertionError: too few are close; then it is not the same training.
    """
    close = [each for each in differences if each < TOLERANCE]
    if len(close) < SHARE * len(differences):
        raise AssertionError(f"{who} do not train the same: losses differ by {max(differences):.1e}")
    parted = len(differences) - len(close)
    return f"losses differ by {max(close):.0e} of the curve's height at most" + (
        f"; {parted} of {len(differences)} curves parted, to {max(differences):.0e}" if parted else ""
    )
