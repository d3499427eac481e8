"""The claims people make about `zero_grad()`, each tested live.

A claim is a sentence with the answer that the documentation gives, and a function that measures. The answer is made
of what was measured, never of what was expected; a finding is ok where the two are the same. The claims stand by
theme, each in a file of its own: what forgetting does, None or zeros, where to clear, accumulating on purpose, code as
it is usually printed, what is kept as momentum, and TensorFlow's tape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.errors import ClaimError, shortened, unknown
from gradlab.verify import accumulating, clearing, forgetting, momentum, none_or_zeros, printed, tensorflow
from gradlab.verify.claim import Claim, Figure, Finding, Measured, answer_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

THEMES = (forgetting, none_or_zeros, clearing, accumulating, printed, momentum, tensorflow)
CLAIMS: dict[str, Claim] = {claim.name: claim for theme in THEMES for claim in theme.CLAIMS}

__all__ = ["CLAIMS", "Claim", "Finding", "Measured", "chosen", "measure", "verify"]


def chosen(names: Iterable[str] | None = None) -> list[Claim]:
    """Return the claims of these names, or all where none is given, in their order; `_` and `-` are alike.

    Raises:
        ClaimError: there is no such claim.
    """
    wanted = {name.strip().lower().replace("_", "-"): name for name in names or CLAIMS}
    for plain, name in wanted.items():
        if plain not in CLAIMS:
            raise ClaimError(unknown("claim", name, CLAIMS))
    return [claim for name, claim in CLAIMS.items() if name in wanted]


def verify(names: Iterable[str] | None = None) -> Iterator[Finding]:
    """Measure the claims of these names, or all, and yield what was found of each.

    Raises:
        ClaimError: there is no such claim.
    """
    return map(measure, chosen(names))


def measure(claim: Claim) -> Finding:
    """Measure one claim, on one thread and from the same seed whichever was measured before.

    What stops a measurement is a finding too: something beneath is not as it should be.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # results depend on the number of threads, and times too
    figures: dict[str, Figure] = {}
    skipped = False
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            found = claim.measure()
        answer, figures, skipped = answer_of(found), dict(found.figures), bool(found.skipped)
    except Exception as error:  # whatever breaks in the code beneath
        answer = f"not measured: {type(error).__name__}: {shortened(error, 200)}"
    finally:
        torch.set_num_threads(threads)
    ok = skipped or answer == claim.documented
    return Finding(claim.name, claim.statement, answer, figures, ok, claim.documented)
