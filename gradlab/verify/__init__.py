"""Common claims about `zero_grad()`, measured.

A claim has a statement, a documented answer and a function that measures it. The answer depends only on the
measurement, and the result is ok if it is the documented answer. Every module has the claims of one theme.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.errors import ClaimError, shortened, unknown
from gradlab.verify import accumulating, clearing, forgetting, momentum, none_or_zeros, printed, tensorflow
from gradlab.verify.claim import Claim, ClaimResult, FigureValue, Measurement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

THEMES = (forgetting, none_or_zeros, clearing, accumulating, printed, momentum, tensorflow)
CLAIMS: dict[str, Claim] = {claim.name: claim for theme in THEMES for claim in theme.CLAIMS}

__all__ = ["CLAIMS", "Claim", "ClaimResult", "Measurement", "measure", "select", "verify"]


def select(names: Iterable[str] | None = None) -> list[Claim]:
    """Return the claims of these names in their usual order; default: all. `_` and `-` are equivalent.

    Raises:
        ClaimError: a name is unknown.
    """
    wanted = {name.strip().lower().replace("_", "-"): name for name in names or CLAIMS}
    for normalised, name in wanted.items():
        if normalised not in CLAIMS:
            raise ClaimError(unknown("claim", name, CLAIMS))
    return [claim for name, claim in CLAIMS.items() if name in wanted]


def verify(names: Iterable[str] | None = None) -> Iterator[ClaimResult]:
    """Measure the claims of these names, by default all, and yield the results.

    Raises:
        ClaimError: a name is unknown.
    """
    return map(measure, select(names))


def measure(claim: Claim) -> ClaimResult:
    """Measure one claim with one thread and a fixed seed, so the order of claims does not matter.

    An exception becomes a result that is not ok.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # results depend on the number of threads, and times too
    figures: dict[str, FigureValue] = {}
    skipped = False
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found = claim.measure()
        answer, figures, skipped = found.answer, dict(found.figures), bool(found.skipped)
    except Exception as error:  # anything can break in the measured code
        answer = f"not measured: {type(error).__name__}: {shortened(error, 200)}"
    finally:
        torch.set_num_threads(threads)
    ok = skipped or answer == claim.documented
    return ClaimResult(claim.name, claim.statement, answer, figures, ok, claim.documented)
