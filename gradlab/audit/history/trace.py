"""Traces: what happened before an update, in order, a letter each.

| letter | what happened |
|---|---|
| B | a backward pass that reached a parameter of this optimizer |
| L | the same, within its step: the closure of LBFGS |
| z | its gradients were cleared by a call of zero_grad(), its own or a model's that holds all of its parameters |
| y | some of them were, by that of a model that holds a part of its parameters |
| n | they were found cleared, at a backward pass or at the step, without such a call: `p.grad = None` |
| c | gradients of its parameters were clipped |
| u | GradScaler.unscale_() |
| k | GradScaler.step() that skipped the update |
| s | a scheduler of it took a step |
| e | a pass over a DataLoader ended, during which there was a backward pass |
| b | a pass over a dataset began anew, during the last one over which there were updates |
| o | another optimizer took a step |
| 0 | the step found no gradient at all |
"""

from __future__ import annotations

BACKWARDS = "BL"
CLEARED = "zn"


def own_part(trace: str) -> str:
    """Return the part of a trace that led to this optimizer's update.

    In a GAN, the generator's backward pass reaches the discriminator too, and is followed by the generator's step.

    >>> own_part("BozB"), own_part("zB"), own_part("BoB"), own_part("Bo")
    ('zB', 'zB', 'B', 'Bo')
    """
    for start in range(len(trace), 0, -1):
        if trace[start - 1] == "o" and any(letter in trace[start:] for letter in BACKWARDS):
            return trace[start:]
    return trace


def last_try(trace: str) -> str:
    """Return what led to the update after the last one that GradScaler skipped.

    >>> last_try("zBBuczkBBuc"), last_try("zB")
    ('BBuc', 'zB')
    """
    part = own_part(trace)
    return part[part.rfind("k") + 1 :]


def backwards_in(trace: str) -> int:
    """Return how many backward passes a trace counts.

    >>> backwards_in("zBBe"), backwards_in("BozB")
    (2, 1)
    """
    part = own_part(trace)
    return sum(part.count(letter) for letter in BACKWARDS)


def gathered_in(trace: str) -> int:
    """Return how many backward passes went into the update: those after the last clearing.

    >>> gathered_in("zBBB"), gathered_in("zBzBzB"), gathered_in("zBz")
    (3, 1, 0)
    """
    part = own_part(trace)
    start = max(part.rfind(letter) for letter in CLEARED) + 1
    return sum(part.count(letter, start) for letter in BACKWARDS)
