"""The divisor of a loss, read from its graph before the backward pass.

The first few nodes show constant factors and divisors, and the mean or sum below them. Reading keeps no tensor of the
graph and copies none from another device. It unpacks no saved tensors, because a checkpoint would recompute them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gradlab.audit.history.loss import NOTHING, UNKNOWN, Loss
from gradlab.audit.places import is_asked_by_user

if TYPE_CHECKING:
    from torch import Tensor

    # The name of a node, its constant or reduction, and the same for its inputs; None where reading the graph ends.
    Facts = tuple[str, Any, tuple["Facts", ...]] | None

OF_TORCH = ("torch/_tensor.py", "torch/autograd/__init__.py", "torch\\_tensor.py", "torch\\autograd\\__init__.py")
MOST_NODES = 24  # read per loss
TRANSPARENT = (
    "ToCopy",
    "View",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Clone",
    "Alias",
)  # nodes that don't change the value
REDUCTIONS = {1: "mean", 2: "sum"}  # as torch numbers them


def loss_of_pass(args: tuple[Any, ...], kwargs: dict[str, Any], *, scaled: bool) -> Loss:
    """Return the scale of the loss of a backward pass with these arguments."""
    try:
        root: Any = args[0] if args else kwargs.get("tensors")
        given = args[1] if len(args) > 1 else kwargs.get("grad_tensors")
        if isinstance(root, list | tuple) and len(root) == 1:
            root = root[0]
        again = any(args[2:4]) or kwargs.get("retain_graph") or kwargs.get("create_graph")  # losses of one graph
        if given is not None or again or not hasattr(root, "grad_fn"):
            return UNKNOWN
        return read(root, scaled=scaled, own=is_asked_by_user(OF_TORCH))
    except Exception:  # the scale of this loss stays unknown
        return UNKNOWN


def read(root: Tensor, *, scaled: bool = False, own: bool = True) -> Loss:
    """Return the scale of a loss, without the factor of a GradScaler if it is `scaled`."""
    node = root.grad_fn
    if scaled and node is not None and node.name() == "MulBackward0":
        node = next((each for each, _ in node.next_functions if each is not None), None)
    return _scale(_facts_at(node, [MOST_NODES]), own)


def _facts_at(node: Any, left: list[int]) -> Facts:
    """Return the facts at and below a node of the graph; `left` is the number of nodes still to read."""
    left[0] -= 1
    if node is None or left[0] < 0:
        return None
    name, inputs = node.name(), node.next_functions
    if name in {"DivBackward0", "MulBackward0"}:
        if (which := constant_operand(node)) is None:
            return None
        below = next(each for each, _ in inputs if each is not None)
        return name, constant_of(node, which), (_facts_at(below, left),)
    if name in {"AddBackward0", "SubBackward0"}:
        return name, None, tuple(_facts_at(each, left) for each, _ in inputs if each is not None)
    if name.startswith(TRANSPARENT):
        return _facts_at(inputs[0][0], left)
    return name, getattr(node, "_saved_reduction", 0), ()


@lru_cache(maxsize=256)
def _scale(facts: Facts, own: bool) -> Loss:
    """Return the scale of a loss with these facts at its root; `own` as in Loss."""
    return _below(facts)._replace(own=own)


def _below(facts: Facts) -> Loss:
    """Return the scale at and below a node with these facts."""
    if facts is None:
        return NOTHING
    name, known, inputs = facts
    if name in {"AddBackward0", "SubBackward0"}:
        return _of_terms([_below(each) for each in inputs])
    if name in {"DivBackward0", "MulBackward0"}:
        return _of_product(name, known, _below(inputs[0]))
    if name.startswith(("MeanBackward", "SumBackward")):
        return Loss(base=name.partition("Backward")[0].lower(), kind=name)
    return Loss(base=REDUCTIONS.get(known, ""), kind=name)


def _of_terms(terms: list[Loss]) -> Loss:
    if not terms:
        return NOTHING
    first = terms[0]
    if len(terms) == 1:  # plus a constant
        return first
    alike = all(each.divisors == first.divisors for each in terms)
    base = first.base if alike and all(each.base == first.base for each in terms) else ""
    largest = max(abs(each.factor) for each in terms)
    kind = "+".join(each.kind for each in terms)
    return Loss(first.divisors if alike else (), largest, base, terms=not (alike and first.divisors), kind=kind)


def _of_product(name: str, constant: float | None, below: Loss) -> Loss:
    """Return the scale at a product or quotient with a constant."""
    if constant is None or constant == 0:
        return below._replace(base="", factor=0.0)
    if constant == 1:  # divides nothing
        return below
    if name == "MulBackward0":
        return below._replace(factor=below.factor * constant)
    factor = below.factor / constant
    if below.base == "sum" and not below.divisors:
        return below._replace(factor=1.0 if below.factor == 1 else factor, base="")  # perhaps a mean
    return below._replace(divisors=(constant, *below.divisors), factor=factor)


def constant_operand(node: Any) -> str | None:
    """Return which operand of a product or quotient is constant: "self" or "other".

    None if both depend on parameters, or if the quotient's divisor does.
    """
    (one, _), (other, _) = node.next_functions
    if (one is None) == (other is None) or (one is None and node.name() == "DivBackward0"):
        return None
    return "other" if other is None else "self"


def constant_of(node: Any, which: str) -> float | None:
    """Return the constant of a product or quotient; None if it is not one number or is slow to read."""
    packed = getattr(node, f"_raw_saved_{which}", None)
    if packed is None or getattr(packed, "unpack_hook", packed) is not None:
        return None
    value = getattr(node, f"_saved_{which}")
    if value is None or value.numel() != 1 or not value.is_cpu or value.is_complex():
        return None
    return float(value.item())
