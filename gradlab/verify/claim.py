"""A claim about `zero_grad()`, and what measuring it found."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HOLDS, FAILS, SKIPPED = "holds", "does not hold", "skipped"

FigureValue = float | int | str


class Measurement(NamedTuple):
    """The result of measuring a claim.

    Attributes:
        cases: whether the statement was true in each circumstance, named by words that go after "when". One case
            alone needs no words.
        figures: the numbers, named by a few words with their unit.
        premises: what must be true for the cases to mean what they say, such as a closed form that agrees.
        skipped: why nothing was measured, and what would help; else empty.
    """

    cases: Mapping[str, bool]
    figures: Mapping[str, FigureValue]
    premises: Mapping[str, bool] = {}
    skipped: str = ""

    @property
    def answer(self) -> str:
        """The cases in words: holds or does not hold where they agree, else when it does and when not.

        >>> Measurement({"it rains": True, "the sun shines": False}, {}).answer
        'holds when it rains; not when the sun shines'
        """
        if self.skipped:
            return f"{SKIPPED}: {self.skipped}"
        if broken := [premise for premise, held in self.premises.items() if not held]:
            return f"unsettled: it was not so that {' and '.join(broken)}"
        true, false = ([case for case, held in self.cases.items() if held is wanted] for wanted in (True, False))
        if not false:
            return HOLDS
        if not true:
            return FAILS
        return f"{HOLDS} when {', or '.join(true)}; not when {', or '.join(false)}"


class Claim(NamedTuple):
    """A common statement, and the answer that the documentation gives.

    Attributes:
        name: in kebab-case.
        statement: one sentence, in the words of those who claim it.
        documented: the expected answer.
        measure: measures the claim; generators are freshly seeded and torch has one thread.
    """

    name: str
    statement: str
    documented: str
    measure: Callable[[], Measurement]


class ClaimResult(NamedTuple):
    """A claim with the measured answer; `ok` where that is the documented one."""

    name: str
    statement: str
    answer: str
    figures: Mapping[str, FigureValue]
    ok: bool
    documented: str

    @property
    def kind(self) -> str:
        """The answer without its circumstances: holds, holds when, does not hold, skipped or other."""
        if self.answer.startswith(f"{HOLDS} when"):
            return f"{HOLDS} when"
        word = self.answer.partition(":")[0]
        return word if word in (HOLDS, FAILS, SKIPPED) else "other"
