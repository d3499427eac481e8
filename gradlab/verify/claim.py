"""A claim about `zero_grad()`, and what measuring it found."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

HOLDS, FAILS, SKIPPED = "holds", "does not hold", "skipped"

Figure = float | int | str


class Measured(NamedTuple):
    """What a measurement found.

    Attributes:
        cases: in which circumstances the statement was found true, and in which false; each named by words that
            go after "when". One case alone needs no words.
        figures: the numbers, each named by a few words with its unit.
        premises: what must be so for the cases to mean what they say, such as a closed form that agrees.
        skipped: why nothing was measured, and what would help; else empty.
    """

    cases: Mapping[str, bool]
    figures: Mapping[str, Figure]
    premises: Mapping[str, bool] = {}
    skipped: str = ""


class Claim(NamedTuple):
    """What people say, and the answer that the documentation gives.

    Attributes:
        name: in kebab-case.
        statement: one sentence, in the words of those who claim it.
        documented: the answer that the measurement is held against.
        measure: the measurement; it starts with freshly seeded generators and one thread.
    """

    name: str
    statement: str
    documented: str
    measure: Callable[[], Measured]


class Finding(NamedTuple):
    """A claim with the answer that was measured; `ok` where that is the documented one."""

    name: str
    statement: str
    answer: str
    figures: Mapping[str, Figure]
    ok: bool
    documented: str

    @property
    def kind(self) -> str:
        """The answer without its circumstances: holds, holds when, does not hold, skipped or other."""
        if self.answer.startswith(f"{HOLDS} when"):
            return f"{HOLDS} when"
        word = self.answer.partition(":")[0]
        return word if word in (HOLDS, FAILS, SKIPPED) else "other"


def answer_of(measured: Measured) -> str:
    """Say in words what was found: where all cases agree, holds or does not hold; else when it does and when not.

    >>> answer_of(Measured({"it rains": True, "the sun shines": False}, {}))
    'holds when it rains; not when the sun shines'
    """
    if measured.skipped:
        return f"{SKIPPED}: {measured.skipped}"
    if broken := [premise for premise, so in measured.premises.items() if not so]:
        return f"unsettled: it was not so that {' and '.join(broken)}"
    true, false = ([when for when, held in measured.cases.items() if held is wanted] for wanted in (True, False))
    if not false:
        return HOLDS
    if not true:
        return FAILS
    return f"{HOLDS} when {', or '.join(true)}; not when {', or '.join(false)}"
