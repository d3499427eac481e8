"""A claim about `zero_grad()` and its measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HOLDS, FAILS, SKIPPED = "holds", "does not hold", "skipped"

FigureValue = float | int | str


class Measurement(NamedTuple):
    """The result of measuring a claim.

    Attributes:
        cases: whether the statement was true in each circumstance. Names complete "holds when …"; a single case has
            an empty name.
        figures: numbers by description, with units.
        premises: conditions of a valid measurement, such as agreement with a closed form.
        skipped: why nothing was measured and what would help; else empty.
    """

    cases: Mapping[str, bool]
    figures: Mapping[str, FigureValue]
    premises: Mapping[str, bool] = {}
    skipped: str = ""

    @property
    def answer(self) -> str:
        """The answer: holds or does not hold if all cases agree, else when it holds and when not.

        >>> Measurement({"it rains": True, "the sun shines": False}, {}).answer
        'holds when it rains; not when the sun shines'
        """
        if self.skipped:
            return f"{SKIPPED}: {self.skipped}"
        if broken := [premise for premise, held in self.premises.items() if not held]:
            return f"unsettled: failed premise: {'; '.join(broken)}"
        true, false = ([case for case, held in self.cases.items() if held is wanted] for wanted in (True, False))
        if not false:
            return HOLDS
        if not true:
            return FAILS
        return f"{HOLDS} when {', or '.join(true)}; not when {', or '.join(false)}"


class Claim(NamedTuple):
    """A common statement and its documented answer.

    Attributes:
        name: the claim's name, in kebab-case.
        statement: one sentence.
        documented: the expected answer.
        measure: the function that measures the claim, called with fresh seeds and one torch thread.
    """

    name: str
    statement: str
    documented: str
    measure: Callable[[], Measurement]


class ClaimResult(NamedTuple):
    """A claim with its measured answer; `ok` if it is the documented one or was skipped."""

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
