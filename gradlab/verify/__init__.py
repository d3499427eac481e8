"""The claims people make about `zero_grad()`, each tested live.

A claim is a sentence, the answer that the documentation gives, and a function that measures. The answer follows from
the measurement alone; a result is ok where it is the documented answer. Each file is a theme: what forgetting does,
None or zeros, where to clear, accumulating on purpose, code as it is usually printed, what is kept as momentum, and
TensorFlow's tape.
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
    """Return the claims of these names, or all by default, in their order; `_` and `-` are alike.

    Raises:
        ClaimError: no claim has that name.
    """
    wanted = {name.strip().lower().replace("_", "-"): name for name in names or CLAIMS}
    for normalised, name in wanted.items():
        if normalised not in CLAIMS:
            raise ClaimError(unknown("claim", name, CLAIMS))
    return [claim for name, claim in CLAIMS.items() if name in wanted]


def verify(names: Iterable[str] | None = None) -> Iterator[ClaimResult]:
    """Measure the claims of these names, or all, and yield the results.

    Raises:
        ClaimError: no claim has that name.
    """
    return map(measure, select(names))


def measure(claim: Claim) -> ClaimResult:
    """Measure one claim, on one thread and from a fixed seed, so that the order of claims does not matter.

    An exception is a result too: something beneath is not as it should be.
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
    except Exception as error:  # whatever breaks in the code beneath
        answer = f"not measured: {type(error).__name__}: {shortened(error, 200)}"
    finally:
        torch.set_num_threads(threads)
    ok = skipped or answer == claim.documented
    return ClaimResult(claim.name, claim.statement, answer, figures, ok, claim.documented)
