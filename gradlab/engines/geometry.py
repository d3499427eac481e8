"""Gradient geometry: how the fresh gradient, `.grad` and the change of the weights compare at each update."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from gradlab.rows import Geometry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor, nn

    from gradlab.engines.cursor import Cursor
    from gradlab.modes import Mode
    from gradlab.optimizers import Optimizer


class GeometryMeter:
    """Measures the geometry of every update of a training, without changing the training.

    The fresh gradient is the gradient of the current window alone. If the mode clears `.grad`, it is `.grad` itself
    before clipping. If the loss counts items, the window keeps it apart from what was kept. Otherwise, hooks add up
    what each backward pass contributes to `.grad`, in `cursor.fresh`.

    Attributes:
        measured: the geometry of the last update.
    """

    def __init__(self, mode: Mode, optimizer: Optimizer, parameters: Sequence[nn.Parameter], cursor: Cursor) -> None:
        self.optimizer, self.parameters, self.cursor = optimizer, parameters, cursor
        self.clears = mode.keep == 0 and mode.rewrite_grad is None
        self.fresh_norm = self.cosine = math.nan
        self.measured: Geometry | None = None

    def while_measuring(self, steps: Iterable[Any]) -> Iterator[Any]:
        """Yield these steps, with hooks on the nodes that add to `.grad` from the first step to the last."""
        from torch.autograd.graph import get_gradient_edge

        # A hook on the parameter itself would also see gradients that torch.autograd.grad() only returns.
        nodes = [] if self.clears else [get_gradient_edge(parameter).node for parameter in self.parameters]
        hooks = [node.register_prehook(partial(self._add, nth)) for nth, node in enumerate(nodes)]
        try:
            yield from steps
        finally:
            for hook in hooks:
                hook.remove()

    def finish_window(self) -> None:
        """Finish the window; measure the fresh gradient and its angle to `.grad`, before clipping."""
        is_apart = self.clears or self.cursor.window.total > 0
        fresh = [parameter.grad for parameter in self.parameters] if is_apart else self.cursor.fresh
        self.cursor.window.finish()
        self.cursor.fresh = []
        self.fresh_norm = _norm(fresh)
        self.cosine = self._cosine(fresh)

    def take_step(self) -> None:
        """Take the optimizer's step; measure `.grad` before it, and how the weights change."""
        gradient_norm = _norm([parameter.grad for parameter in self.parameters])
        before = [parameter.detach().clone() for parameter in self.parameters]
        self.optimizer.step()
        moves = [parameter.detach() - old for parameter, old in zip(self.parameters, before, strict=True)]
        self.measured = Geometry(self.fresh_norm, gradient_norm, self.cosine, _norm(moves))

    def _add(self, nth: int, gradients: tuple[Tensor]) -> None:
        """Add the gradient that a backward pass adds to the nth parameter's `.grad`."""
        (gradient,) = gradients
        fresh = self.cursor.fresh = self.cursor.fresh or [None] * len(self.parameters)
        earlier = fresh[nth]
        fresh[nth] = dense(gradient).clone() if earlier is None else earlier.add_(gradient)

    def _cosine(self, fresh: Sequence[Tensor | None]) -> float:
        """Return the cosine between the fresh gradient and `.grad`; NaN if one of them is zero or not finite."""
        if not 0 < self.fresh_norm < math.inf:
            return math.nan
        if self.clears:
            return 1.0
        gradient_norm = _norm([parameter.grad for parameter in self.parameters])
        if not 0 < gradient_norm < math.inf:
            return math.nan
        pairs = [
            (in_double(each), in_double(parameter.grad))
            for each, parameter in zip(fresh, self.parameters, strict=True)
            if each is not None and parameter.grad is not None
        ]
        product = math.fsum((one * other).sum().item() for one, other in pairs)
        return max(-1.0, min(product / self.fresh_norm / gradient_norm, 1.0))


def _norm(tensors: Sequence[Tensor | None]) -> float:
    """Return the Euclidean norm of all elements of these tensors; None counts as zeros."""
    import torch

    norms = [torch.linalg.vector_norm(in_double(each)) for each in tensors if each is not None]
    if not norms:
        return 0.0
    total: float = torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms])).item()
    return total


def in_double(tensor: Tensor) -> Tensor:
    """Return a dense real tensor in float64, in which squares of float32 neither overflow nor vanish."""
    import torch

    found = dense(tensor)
    real = torch.view_as_real(found) if found.is_complex() else found
    return real if real.device.type == "mps" else real.double()  # MPS has no float64


def dense(tensor: Tensor) -> Tensor:
    """Return a dense tensor without a graph."""
    plain = tensor.detach()
    return plain.to_dense() if plain.is_sparse else plain
