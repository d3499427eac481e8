"""The rehearsal: what can be trained as a stack, found by trying two batches of it against the models alone.

Nothing is decided by a list of layers or optimizers: a loss that draws random numbers, keeps a state, branches on data
or holds a tensor of its own seed shows itself when the same batches come to it alone and stacked.
"""

from __future__ import annotations

import warnings
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.engines.ensemble.batches import CannotStackError, others_of
from gradlab.engines.ensemble.stack import Member, Stack
from gradlab.engines.loop import mean_and_items
from gradlab.engines.resuming import Generators
from gradlab.errors import shortened
from gradlab.modes import zero_grad
from gradlab.tasks.fairness import hash_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from gradlab.modes import Mode
    from gradlab.optimizers import Optimizer
    from gradlab.tasks import Task

    Build = Callable[[Sequence[nn.Parameter]], Optimizer]

# How far a loss or gradient may be from that of the model alone, over its largest element, by bytes of the type: the
# kernels of stacked tensors add in another order, so that last bits differ, and more of them in long sums.
TOLERANCE = {8: 1e-10, 4: 1e-4, 2: 5e-2, 1: 0.5}
COPIES = 2  # of each model, with differing weights


class Rehearsal(NamedTuple):
    """What came of it.

    Attributes:
        obstacle: why these tasks cannot be stacked, in a few words; "" where they can.
        counted: whether their loss is a pair (sum, count).
        traceable: whether each weight had a gradient of each batch, of which there is nothing but tensors.
    """

    obstacle: str
    counted: bool = False
    traceable: bool = False


def obstacle(tasks: Sequence[Task], mode: Mode, build: Build) -> str:
    """Say in a few words why runs cannot be trained as a stack; "" where they can.

    Args:
        tasks: those of all seeds that are trained together, built for this alone: batches are drawn, weights changed.
        mode: of one of the runs, which are alike in `every`, in how a window is divided, and in being a user's own.
        build: returns the optimizer of parameters.
    """
    return obstacle_before(mode, build) or obstacle_of(rehearsed(tasks), mode)


def obstacle_before(mode: Mode, build: Build) -> str:
    """Say what stands against it whatever the task is; "" for nothing."""
    if mode.own is not None or mode.rewrite_grad is not None:
        return "a mode of your own leaves in .grad what it likes"
    return "" if _is_elementwise(build) else "its optimizer does not treat each weight by itself"


def obstacle_of(rehearsal: Rehearsal, mode: Mode) -> str:
    """Say what stands against it under this mode, when the tasks have been rehearsed; "" for nothing."""
    by_items = rehearsal.counted and mode.every > 1 and mode.mean and not mode.by_batch
    return rehearsal.obstacle or by_items * "accumulation divides by the items that its loss counts"


def rehearsed(tasks: Sequence[Task]) -> Rehearsal:
    """Compute loss and gradient of two batches of each task alone, and of all stacked, and compare."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch has to say of a task it says when that is trained
        try:
            alone = [_Alone(task) for task in tasks]
            return _stacked(tasks, alone)
        except _ObstacleError as found:
            return Rehearsal(str(found))


class _ObstacleError(Exception):
    """What stands against a stack."""


class _Found(NamedTuple):
    """What a model alone finds of a batch."""

    loss: Tensor
    items: float | None
    grads: dict[str, Tensor | None]


class _Alone:
    """A task by itself.

    Attributes:
        batches: two, or twice the one that there is.
        weights: of each copy of the model, by name.
        found: of each copy and batch.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.batches = list(_drawn(task))
        self.weights = list(_copies(task.model))
        generators = Generators(task)
        buffers, drawn = hash_of(dict(task.model.named_buffers())), generators.now()
        self.found = [self._of(weights) for weights in self.weights]
        if not _alike(generators.now(), drawn):
            raise _ObstacleError("its loss draws random numbers (dropout does)")
        if hash_of(dict(task.model.named_buffers())) != buffers:
            raise _ObstacleError("its model writes to its buffers (BatchNorm does)")
        if any(_differ(one, again) for copy in self.found for one, again in zip(copy, reversed(copy), strict=True)):
            raise _ObstacleError("its loss keeps something from batch to batch")

    def _of(self, weights: dict[str, Tensor]) -> list[_Found]:
        """Return what these weights find of the first batch, of the second, and of both again the other way round."""
        import torch

        with torch.no_grad():
            for name, each in self.task.model.named_parameters():
                each.copy_(weights[name])
        one, other = self.batches
        return [self._found(batch) for batch in (one, other, other, one)]

    def _found(self, batch: Any) -> _Found:
        model = self.task.model
        model.zero_grad(set_to_none=True)
        try:
            loss, items = mean_and_items(self.task.loss(model, batch))
            loss.backward()
        except Exception as error:  # it is a user's: the plain loop tells of it
            raise _ObstacleError(f"its loss raises {type(error).__name__}") from None
        grads = {name: each.grad for name, each in _trained(model)}
        if any(each is not None and each.is_sparse for each in grads.values()):
            raise _ObstacleError("its gradients are sparse")
        return _Found(loss.detach(), items, grads)


def _drawn(task: Task) -> Iterator[Any]:
    """Yield two batches, the same twice where there is but one."""
    batches, hashes = [], []
    try:
        for batch in islice(task.batches, 2):
            batches.append(batch)
            hashes.append(hash_of(batch))
        changed = [hash_of(batch) for batch in batches] != hashes
    except Exception as error:  # as above
        raise _ObstacleError(f"its batches raise {type(error).__name__}") from None
    if not batches:
        raise _ObstacleError("it has no batch")
    if changed:
        raise _ObstacleError("its batches are written over when the next is drawn")
    yield from (batches * 2)[:2]


def _copies(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Yield the weights as they are, and moved by a hundredth of their size."""
    import torch

    generator = torch.Generator().manual_seed(0)
    held = {name: each.detach().clone() for name, each in model.named_parameters()}
    for nth in range(COPIES):
        moved = {}
        for name, each in model.named_parameters():
            noise = torch.randn(each.shape, generator=generator, dtype=torch.float64).to(each)
            size = 0.01 * nth * (each.detach().abs().mean() + 0.01)
            moved[name] = held[name] + size * noise if each.requires_grad else held[name]
        yield moved


def _trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, each) for name, each in model.named_parameters() if each.requires_grad)


def _differ(one: _Found, other: _Found) -> bool:
    """Say whether two findings of one batch by the same weights are not the same, bit for bit."""
    if one.items != other.items or not _same(one.loss, other.loss):
        return True
    return any(not _same(grad, other.grads[name]) for name, grad in one.grads.items())


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    import torch

    if one is None or other is None:
        return one is other
    dense = one.layout == other.layout == torch.strided
    return (dense and torch.equal(one, other)) or hash_of(one) == hash_of(other)  # the latter where one is NaN


def _alike(one: Any, other: Any) -> bool:
    """Say whether two states of generators are the same; element by element only where it must be."""
    if isinstance(one, dict):
        return all(_alike(each, other[key]) for key, each in one.items())
    if isinstance(one, list | tuple) and not all(isinstance(each, int) for each in one):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool((one == other).all()) if hasattr(one, "shape") else bool(one == other)


def _stacked(tasks: Sequence[Task], alone: list[_Alone]) -> Rehearsal:
    """Compute the same as a stack, and hold it against what was found of each alone."""
    try:
        members = [Member(zero_grad(), nth) for nth in range(len(tasks)) for _ in range(COPIES)]
        stack = Stack(tasks, members)
        (group,) = stack.groups
        complete = not any(others_of(batch) for each in alone for batch in each.batches)
        _put(group.parameters, [weights for each in alone for weights in each.weights])
        for nth in (0, 1):
            losses, items = stack.losses([each.batches[nth] for each in alone])
            losses.sum().backward()  # type: ignore[no-untyped-call]  # torch's
            grads = {name: each.grad for name, each in group.parameters.items()}
            expected = [copy[nth] for each in alone for copy in each.found]
            if not _agree(losses.detach(), items, grads, expected):
                return Rehearsal("its loss or gradient is another when many runs are computed at once")
            complete &= all(each is not None for each in grads.values())
            for each in group.parameters.values():
                each.grad = None
    except CannotStackError as error:
        return Rehearsal(str(error))
    except Exception as error:  # torch tells in many ways what vmap cannot do
        why = shortened(str(error).partition("\n")[0].partition(". ")[0], 90)
        return Rehearsal(f"torch.func.vmap cannot compute its loss: {why or type(error).__name__}")
    return Rehearsal("", items is not None, complete and items is None)


def _put(parameters: dict[str, nn.Parameter], weights: list[dict[str, Tensor]]) -> None:
    import torch

    with torch.no_grad():
        for name, each in parameters.items():
            each.copy_(torch.stack([one[name] for one in weights]))


def _agree(losses: Tensor, items: Tensor | None, grads: dict[str, Tensor | None], expected: list[_Found]) -> bool:
    """Say whether each run's losses, items and gradients are those of the model alone, within the tolerance."""
    if items is not None and [float(each) for each in items] != [float(each.items or 0) for each in expected]:
        return False
    if not all(_close(loss, found.loss.reshape(())) for loss, found in zip(losses, expected, strict=True)):
        return False
    for name, grad in grads.items():
        wanted = [found.grads[name] for found in expected]
        if (grad is None) or any(each is None for each in wanted):
            if grad is not None or any(each is not None for each in wanted):
                return False
            continue
        floor = max((_largest(each) for each in expected[0].grads.values() if each is not None), default=0.0)
        if not all(_close(one, each, floor) for one, each in zip(grad, wanted, strict=True)):
            return False
    return True


def _close(found: Tensor, expected: Tensor | None, floor: float = 0.0) -> bool:
    """Say whether two tensors are equal within the tolerance of their type; a hundredth of `floor` counts as large."""
    import torch

    if expected is None or expected.shape != found.shape or expected.dtype != found.dtype:
        return False
    within = TOLERANCE[expected.element_size()] * max(_largest(expected), 0.01 * floor)
    return torch.allclose(found, expected, rtol=0.0, atol=within, equal_nan=True)


def _largest(tensor: Tensor) -> float:
    import torch

    finite = tensor.detach().abs()[torch.isfinite(tensor)]
    return float(finite.max()) if finite.numel() else 0.0


def _is_elementwise(build: Build) -> bool:
    """Say whether an optimizer does to a stack of three matrices what it does to each of them alone."""
    import torch

    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    together = [torch.nn.Parameter(start.clone())]
    alone = [torch.nn.Parameter(each.clone()) for each in start]
    try:
        both = build(together), [build([each]) for each in alone]
        for _ in range(3):
            grads = torch.randn(start.shape, generator=generator, dtype=torch.float64)
            grads *= torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64).view(3, 1, 1)  # a norm over all would show
            together[0].grad = grads.clone()
            both[0].step()
            for parameter, grad, optimizer in zip(alone, grads, both[1], strict=True):
                parameter.grad = grad.clone()
                optimizer.step()
    except Exception:  # it refuses tensors of three dimensions, dense gradients, or its options
        return False
    found = torch.stack([each.detach() for each in alone])
    return torch.allclose(together[0].detach(), found, rtol=1e-12, atol=1e-12)
