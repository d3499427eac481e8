"""The loss of a backward pass as a number: without a GradScaler's factor, and without a constant divisor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradlab.audit.recording.loss import read

if TYPE_CHECKING:
    import torch

SCALE = "gradlab.scale"  # in the metadata of nodes that GradScaler.scale() has made
PRODUCTS = ("DivBackward0", "MulBackward0")
SUMS = ("AddBackward0", "SubBackward0")
MOST_NODES = 24  # that are searched for a scaled loss


def mark_scale(scaler: Any, result: Any) -> None:
    """Note in the graph by which factor GradScaler.scale() multiplied these losses."""
    if not scaler.is_enabled():
        return
    for each in result if isinstance(result, list | tuple) else [result]:
        if isinstance(each, list | tuple):
            mark_scale(scaler, each)
        elif getattr(each, "grad_fn", None) is not None:
            each.grad_fn.metadata[SCALE] = scaler.get_scale()


def value_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """Return the loss of a backward pass with these arguments of torch.autograd.backward; nan if it is not real."""
    root: Any = args[0] if args else kwargs.get("tensors")
    if hasattr(root, "grad_fn") and root.numel() == 1:
        return _value(root, None)
    given: Any = args[1] if len(args) > 1 else kwargs.get("grad_tensors")
    roots = [root] if hasattr(root, "grad_fn") else list(root or ())
    gradients = [given] * len(roots) if given is None or hasattr(given, "grad_fn") else list(given)
    return math.fsum(_value(each, gradient) for each, gradient in zip(roots, gradients, strict=False))


def _value(root: torch.Tensor, gradient: torch.Tensor | None) -> float:
    if root.is_complex():
        return math.nan
    if root.numel() == 1:
        value = float(root.item())
    else:
        value = float((root.detach() if gradient is None else root.detach() * gradient.detach()).sum())
    node: Any = root.grad_fn
    name = "" if node is None else node.name()
    if name not in PRODUCTS and name not in SUMS:
        return value
    value /= _scale_in(node)
    if name in SUMS:
        return value
    loss = read(root, scaled=SCALE in node.metadata, own=True)
    return value if loss.terms else value * math.prod(loss.divisors)


def _scale_in(root: Any) -> float:
    """Return the factor of a GradScaler in sums and products of scaled losses; or 1."""
    waiting, left = [root], MOST_NODES
    while waiting and left:
        node, left = waiting.pop(0), left - 1
        if node is None or node.name() not in (*PRODUCTS, *SUMS):
            continue
        if SCALE in node.metadata:
            return float(node.metadata[SCALE])
        waiting += [each for each, _ in node.next_functions]
    return 1.0
