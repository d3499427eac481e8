"""How to clear: None or zeros, before or after, by the optimizer or by the model."""

from __future__ import annotations

import time
import weakref
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from gradlab import modes
from gradlab.verify.claim import Claim, Figure, Measured
from gradlab.verify.trial import apart, built, equal, grads_of, norm, same, trial, weights_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor, nn

    from gradlab.tasks import Task


# None or zeros: memory and time


def _layers(width: int, depth: int) -> nn.Sequential:
    from torch import nn

    return nn.Sequential(*(nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(depth)))


def _stepping(
    width: int, depth: int, batch: int, *, fill: bool
) -> tuple[nn.Module, Callable[[], object], Callable[[], object]]:
    """Return a model, what takes a training step with it but for the clearing, and the clearing."""
    import torch

    model = _layers(width, depth)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(batch, width)

    def step() -> None:
        model(x).square().mean().backward()
        optimizer.step()

    return model, step, lambda: optimizer.zero_grad(set_to_none=not fill)


def peak_of(action: Callable[[], object]) -> int:
    """Return the largest number of bytes that tensors made within `action` held at one time.

    Every operation, of the backward pass too, is seen on its way to the CPU; a storage counts from the operation that
    made it until it is freed. What one operation allocates and frees within itself is not seen.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    now = peak = 0
    known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def freed(size: int) -> None:
        nonlocal now
        now -= size

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ARG002 - torch's
            nonlocal now, peak
            before = {each.untyped_storage() for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)}
            made = func(*args, **(kwargs or {}))
            for each in tree_leaves(made):
                if isinstance(each, torch.Tensor):
                    storage = each.untyped_storage()
                    if storage not in known and storage not in before:
                        known.add(storage)
                        now += storage.nbytes()
                        weakref.finalize(storage, freed, storage.nbytes())
            peak = max(peak, now)
            return made

    with Watch():
        action()
    return peak


def _memory(batch: int, *, fill: bool) -> tuple[int, int]:
    """Return the bytes held in `.grad` between two steps, and the peak of a step on top of the parameters."""
    model, step, clear = _stepping(256, 4, batch, fill=fill)

    def whole() -> None:
        step()
        clear()

    whole()
    held = sum(each.grad.nbytes for each in model.parameters() if each.grad is not None)
    return held, held + peak_of(whole)
