"""Comparing gradients of an optimizer's parameters: lists with a tensor or None for each parameter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from gradlab.engines.geometry import dense, in_double

if TYPE_CHECKING:
    from torch import Tensor

    Grads = list[Tensor | None]

ROUNDING = {"torch.float16": 1e-2, "torch.bfloat16": 1e-1}  # of sums in another order; 1e-5 in other types

EXACT = {"torch.float16": 1e-5, "torch.bfloat16": 1e-3}  # of misfit: multiples up to rounding; 1e-10 in other types


def copied(grad: Tensor | None) -> Tensor | None:
    """Return a copy without a graph."""
    return None if grad is None else _plain(grad).clone()


def added(grad: Tensor | None, fresh: Tensor) -> Tensor:
    """Return the sum as a new tensor."""
    return _plain(fresh).clone() if grad is None else grad + _plain(fresh)


def scaled(grads: Grads, factors: tuple[float, ...]) -> Grads:
    """Return the gradients multiplied by each of the factors, one after the other; always new tensors."""
    found = [None if each is None else _plain(each) for each in grads]
    for factor in factors:
        if factor == 1:  # three times as fast
            found = [None if each is None else each.clone() for each in found]
        else:
            found = [None if each is None else each * factor for each in found]
    return found


def zeros_like(grads: Grads) -> Grads:
    """Return zeros, and None for None."""
    import torch

    return [None if each is None else torch.zeros_like(each) for each in grads]


def is_empty(grad: Tensor | None) -> bool:
    """Say whether a gradient is None or all zeros."""
    return grad is None or not dense(grad).any()


def are_empty(grads: Grads) -> bool:
    """Say whether all gradients are None or zeros."""
    return all(map(is_empty, grads))


def are_equal(one: Tensor | None, other: Tensor | None) -> bool:
    """Say whether two gradients are equal up to rounding; None equals zeros, and nan itself."""
    if one is None or other is None:
        return is_empty(one) and is_empty(other)
    if one.shape != other.shape:
        return False
    one, other = dense(one), dense(other)
    if one.equal(other):
        return True
    largest = float(other.abs().nan_to_num(0, 0, 0).max()) if other.numel() else 0.0
    rounding = ROUNDING.get(str(one.dtype), 1e-5)
    return bool(one.isclose(other, rtol=rounding, atol=rounding * largest, equal_nan=True).all())


def misfit(grads: Grads, others: Grads) -> float:
    """Return how far the gradients are from multiples of the others: 0 if each parameter's is one, at most 1.

    It is the part of the squared norm that no positive factor per parameter explains. nan if they are not finite.
    """
    total = explained = 0.0
    for one, other in zip(grads, others, strict=True):
        if one is None:
            continue
        one = in_double(one)
        norm = float((one * one).sum())
        total += norm
        if other is not None and norm:
            other = in_double(other)
            dot, size = float((one * other).sum()), float((other * other).sum())
            explained += math.nan if not math.isfinite(size) else dot * dot / size if dot > 0 else 0.0
    if not math.isfinite(total) or math.isnan(explained):
        return math.nan
    return max(0.0, 1 - explained / total) if total else 0.0


def exact_misfit(grads: Grads) -> float:
    """Return the misfit below which gradients of these types are multiples up to rounding."""
    return max((EXACT.get(str(each.dtype), 1e-10) for each in grads if each is not None), default=1e-10)


def misfit_of_sum(grads: Grads, one: Grads, other: Grads) -> float:
    """Return how far the gradients are from a × one + b × other, with the same a and b for all parameters.

    It is 0 if they are that, and 1 where too few numbers show it, or b would be 0 or unknown.
    """
    import torch

    present = [(each, a, b) for each, a, b in zip(grads, one, other, strict=True) if each is not None]
    if sum(each.numel() for each, _, _ in present) <= 2:  # a and b explain any two numbers
        return 1.0
    columns = [
        torch.cat(
            [
                (torch.zeros_like(in_double(of[0])) if each is None else in_double(each)).flatten().cpu()
                for each, of in part
            ]
        )
        for part in ([(of[nth], of) for of in present] for nth in range(3))
    ]
    target, first, second = columns
    rest = second - first * (first @ second / (first @ first).clamp_min(1e-300))
    left = target - first * (first @ target / (first @ first).clamp_min(1e-300))
    if float(rest @ rest) <= 1e-12 * float(second @ second):  # parallel: b is unknown
        return 1.0
    left = left - rest * (rest @ left / (rest @ rest))
    misfit = float(left @ left) / float(target @ target)
    return misfit if math.isfinite(misfit) else 1.0


def are_shrunk(grads: Grads, others: Grads) -> bool:
    """Say whether each number lies between 0 and the other one, as after clipping by value."""
    for one, other in zip(grads, others, strict=True):
        if one is not None and other is None and not is_empty(one):
            return False
        if one is not None and other is not None:
            a, b = in_double(one), in_double(other)
            if not bool(((a * b >= 0) & (a.abs() <= b.abs() * (1 + 1e-6))).all()):
                return False
    return True


def _plain(grad: Tensor) -> Tensor:
    return grad.detach() if grad.requires_grad else grad
