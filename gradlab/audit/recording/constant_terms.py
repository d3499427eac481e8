"""Terms of a loss without a graph: what is added to the loss, but has no gradient.

A graph shows that something was added, but not whether it is a number or a tensor, and not its value. So the value
is computed: the loss minus all other terms, which are computed again from the tensors that their nodes save.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit.history.setup import ConstantTerm
from gradlab.audit.recording.loss import TRANSPARENT, constant_of, constant_operand

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from gradlab.audit.history.history import History
    from gradlab.audit.places import Place

MOST_NODES = 32  # read per loss
MOST_ELEMENTS = 4_000_000  # of a tensor that is read again
MOST_VALUES = 64  # per line
MOST_LINES = 64
REDUCTIONS = ("none", "mean", "sum")  # as torch numbers them
SAVED = {  # by name of the node: its function, and the arguments that the node saves
    "MseLossBackward0": ("mse_loss", ("target",)),
    "NllLossBackward0": ("nll_loss", ("target", "weight", "ignore_index")),
    "BinaryCrossEntropyBackward0": ("binary_cross_entropy", ("target", "weight")),
    "BinaryCrossEntropyWithLogitsBackward0": (
        "binary_cross_entropy_with_logits",
        ("target", "weight", "pos_weight"),
    ),
    "SmoothL1LossBackward0": ("smooth_l1_loss", ("target", "beta")),
    "HuberLossBackward0": ("huber_loss", ("target", "delta")),
}


class UnknownValueError(Exception):
    """The value of a node cannot be computed."""


class _Term(NamedTuple):
    node: Any  # None without a graph
    factor: float


class ConstantTerms:
    """Computes the terms without a graph, by line of the backward pass."""

    def __init__(self, history: History) -> None:
        self._history = history

    def look(self, roots: list[Tensor], place: Place, update: int) -> None:
        """Check the loss of a backward pass."""
        known, terms = self._history.constant_terms, self._history.constant_terms.get(place)
        if len(roots) != 1 or (terms and len(terms.values) >= MOST_VALUES):
            return
        try:
            found = constant_term(roots[0])
        except Exception:  # the value stays unknown; torch refuses tensors that have changed
            return
        if found is not None and place not in known and len(known) < MOST_LINES:
            known[place] = ConstantTerm(update)
        if place in known and found is None:
            known[place].without += 1
        elif place in known and found is not None:
            known[place].values.append(found.value)
            known[place].largest = max(known[place].largest, abs(found.loss))


class FoundTerm(NamedTuple):
    """The value of a term without a graph, and of the loss; both without a common factor."""

    value: float
    loss: float


def constant_term(loss: Tensor) -> FoundTerm | None:
    """Return the value of the term without a graph; None if the loss has no such term.

    Raises:
        UnknownValueError: the loss has one, but not on the CPU or beside terms of unknown value.
    """
    if loss.grad_fn is None or loss.numel() != 1:
        return None
    terms = list(_terms(loss.grad_fn, 1.0, [MOST_NODES]))
    missing = {term.factor for term in terms if term.node is None}
    if not missing:
        return None
    if len(missing) > 1 or not loss.is_cpu or 0 in missing:
        raise UnknownValueError
    known = math.fsum(term.factor * _value(term.node) for term in terms if term.node is not None)
    factor = missing.pop()
    return FoundTerm((float(loss.item()) - known) / factor, float(loss.item()) / factor)


def _terms(node: Any, factor: float, left: list[int]) -> Iterator[_Term]:
    """Yield the terms that a node adds up, with their constant factors."""
    left[0] -= 1
    if left[0] < 0:
        raise UnknownValueError
    name = node.name() if node is not None else ""
    if name.startswith(TRANSPARENT):
        yield from _terms(node.next_functions[0][0], factor, left)
    elif name in {"AddBackward0", "SubBackward0"} and node._saved_alpha == 1:  # noqa: SLF001 - the only way
        signs = (1, 1 if name == "AddBackward0" else -1)
        for (below, _), sign in zip(node.next_functions, signs, strict=True):
            yield from _terms(below, sign * factor, left)
    elif name in {"MulBackward0", "DivBackward0"} and (number := _constant_factor(node, name)):
        below = next(each for each, _ in node.next_functions if each is not None)
        yield from _terms(below, factor * number, left)
    else:
        yield _Term(node, factor)


def _constant_factor(node: Any, name: str) -> float | None:
    which = constant_operand(node)
    constant = constant_of(node, which) if which else None
    return 1 / constant if constant and name == "DivBackward0" else constant


def _value(node: Any) -> float:
    """Return the value of a node that reduces tensors which it saves."""
    import torch

    name = node.name()
    with torch.no_grad():
        if name in SAVED:
            function, names = SAVED[name]
            arguments = {each: _saved(node, each) for each in names}
            how = REDUCTIONS[_saved(node, "reduction")]
            result = getattr(torch.nn.functional, function)(_saved(node, "self"), **arguments, reduction=how)
        elif name in {"MeanBackward0", "SumBackward0"}:
            result = _elements(node.next_functions[0][0])
            result = result.mean() if name == "MeanBackward0" else result.sum()
        else:
            raise UnknownValueError
    return float(result.item())


def _elements(node: Any) -> Any:
    name = node.name() if node is not None else ""
    if name == "PowBackward0":
        return _saved(node, "self") ** _saved(node, "exponent")
    if name == "AbsBackward0":
        return _saved(node, "self").abs()
    raise UnknownValueError


def _saved(node: Any, name: str) -> Any:
    """Return what a node saves, unless a checkpoint would compute it again."""
    packed = getattr(node, f"_raw_saved_{name}", None)
    if packed is not None and getattr(packed, "unpack_hook", None) is not None:
        raise UnknownValueError
    value = getattr(node, f"_saved_{name}")
    if hasattr(value, "numel") and (value.numel() > MOST_ELEMENTS or not value.is_cpu):
        raise UnknownValueError
    return value - 2**64 if isinstance(value, int) and value >= 2**63 else value  # a negative ignore_index
