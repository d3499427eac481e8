"""Traces: the events before an update of one optimizer, one letter per event."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple


class Event(StrEnum):
    """An event before an update; its value is the letter in a trace."""

    BACKWARD = "B"  # a backward pass reached a parameter of this optimizer
    CLOSURE_BACKWARD = "L"  # the same, inside its step: the closure of LBFGS
    CLEARED = "z"  # zero_grad() of the optimizer, or of a model with all of its parameters
    PARTLY_CLEARED = "y"  # zero_grad() of a model with some of its parameters
    FOUND_CLEARED = "n"  # gradients were gone without a call, such as by `p.grad = None`
    CLIPPED = "c"  # gradients of its parameters were clipped
    UNSCALED = "u"  # GradScaler.unscale_()
    SKIPPED = "k"  # GradScaler.step() skipped the update
    SCHEDULED = "s"  # a learning-rate scheduler stepped
    EPOCH_ENDED = "e"  # a pass over a DataLoader with backward passes ended
    EPOCH_STARTED = "b"  # a new pass over the same dataset began
    OTHER_STEPPED = "o"  # another optimizer stepped
    NO_GRADIENT = "0"  # the step found no gradient at all
    STEPPED = "S"  # the step itself; never part of a trace, only stores its line


BACKWARDS = "BL"
CLEARED = "zn"
DROPPED = re.compile(r"[zeb]*(B+)([eb]*z[zeb]*)(B+)[eb]*")


class Dropped(NamedTuple):
    """Backward passes in a trace whose gradient was cleared before any step."""

    wasted: int
    used: int  # later passes, none of them cleared
    at_end: bool  # an epoch ended or began in between


def only(letters: str, trace: str) -> str:
    """Return the trace with only these letters.

    >>> only("zB", "zBceB")
    'zBB'
    """
    return "".join(letter for letter in trace if letter in letters)


def own_part(trace: str) -> str:
    """Return the part of a trace that led to this optimizer's update.

    In a GAN, the generator's backward pass also reaches the discriminator, and the generator's step follows.

    >>> own_part("BozB"), own_part("zB"), own_part("BoB"), own_part("Bo")
    ('zB', 'zB', 'B', 'Bo')
    """
    for start in range(len(trace), 0, -1):
        if trace[start - 1] == "o" and any(letter in trace[start:] for letter in BACKWARDS):
            return trace[start:]
    return trace


def last_try(trace: str) -> str:
    """Return the part of a trace since the last update that GradScaler skipped.

    >>> last_try("zBBuczkBBuc"), last_try("zB")
    ('BBuc', 'zB')
    """
    part = own_part(trace)
    return part[part.rfind("k") + 1 :]


def clipped_between(trace: str) -> bool:
    """Say whether gradients are clipped between two backward passes, without clearing.

    >>> clipped_between("zBcB"), clipped_between("zBBc"), clipped_between("zBczB")
    (True, False, False)
    """
    return re.search(r"Bc+B", only("Bczn", own_part(trace))) is not None


def backwards_in(trace: str) -> int:
    """Return the number of backward passes in a trace.

    >>> backwards_in("zBBe"), backwards_in("BozB")
    (2, 1)
    """
    part = own_part(trace)
    return sum(part.count(letter) for letter in BACKWARDS)


def dropped_in(trace: str) -> Dropped | None:
    """Return the wasted passes in a trace, if all others follow after one clearing; None for any other trace.

    >>> dropped_in("zBBezbBBBB"), dropped_in("zBzBzB"), dropped_in("zBBB")
    (Dropped(wasted=2, used=4, at_end=True), None, None)
    """
    letters = only("BLy0kzneb", own_part(trace)).replace("n", "z")
    found = (
        DROPPED.fullmatch(letters) if "B" in letters and "Bz" in letters.replace("e", "").replace("b", "") else None
    )
    return Dropped(len(found[1]), len(found[3]), found[2].strip("z") != "") if found else None


@lru_cache(maxsize=256)
def gathered_in(trace: str) -> int:
    """Return the number of backward passes that contribute to the update: those after the last clearing.

    >>> gathered_in("zBBB"), gathered_in("zBzBzB"), gathered_in("zBz")
    (3, 1, 0)
    """
    part = own_part(trace)
    start = max(part.rfind(letter) for letter in CLEARED) + 1
    return sum(part.count(letter, start) for letter in BACKWARDS)
