"""Decide whether tasks can be trained as a stack, by comparing two batches alone and stacked.

No list of supported layers or optimizers is used. The comparison finds a loss that draws random numbers, keeps a
state, branches on data or holds a tensor of its own seed.
"""

from __future__ import annotations

import warnings
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import optimizers
from gradlab.engines.ensemble.batches import CannotStackError, split_batch
from gradlab.engines.ensemble.stack import Member, Stack
from gradlab.engines.losses import mean_and_items
from gradlab.engines.resuming import Generators
from gradlab.errors import shortened
from gradlab.modes import zero_grad
from gradlab.tasks.hashing import hash_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from gradlab.modes import Mode
    from gradlab.optimizers import Optimizer
    from gradlab.tasks import Task

    Build = Callable[[Sequence[nn.Parameter]], Optimizer]

# Largest deviation of a stacked loss or gradient, relative to its largest element, by bytes of the type. Stacked
# kernels sum in another order, so the last bits differ, and long sums differ more.
TOLERANCE = {8: 1e-10, 4: 1e-4, 2: 5e-2, 1: 0.5}
COPIES = 2  # of each model, with different weights


class Stackability(NamedTuple):
    """Whether tasks can be stacked.

    Attributes:
        reason: why they cannot, in a few words; "" if they can.
        counts_items: whether their loss is a pair (sum, count).
        traceable: whether both batches consist of tensors only and give every weight a gradient.
    """

    reason: str
    counts_items: bool = False
    traceable: bool = False

    def reason_under(self, mode: Mode) -> str:
        """Return why they cannot be stacked in this mode; "" if they can."""
        by_items = self.counts_items and mode.every > 1 and mode.mean and not mode.by_batch
        return self.reason or by_items * "its loss counts items, and accumulation divides by them"


def unstackable_reason(mode: Mode, build: Build) -> str:
    """Return why runs of this mode and optimizer cannot be stacked with any task; "" if they can.

    Args:
        mode: the mode of one run; the others agree with it in `every`, in dividing, and in being a user's own mode.
        build: takes parameters and returns their optimizer.
    """
    if mode.own is not None or mode.rewrite_grad is not None:
        return "its mode is your own function"
    return "" if _is_elementwise(build) else "its optimizer's update of a weight depends on other weights"


def stackability_of(tasks: Sequence[Task]) -> Stackability:
    """Compare losses and gradients of two batches, computed by each task alone and by the stack.

    `tasks` holds one task per seed. Build them only for this check: it draws batches and changes weights.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch repeats its warnings during training
        try:
            return _compared(tasks, [_expected_of(task) for task in tasks])
        except CannotStackError as error:
            return Stackability(str(error))


class _Gradients(NamedTuple):
    """The results of a model on one batch."""

    loss: Tensor
    items: float | None
    grads: dict[str, Tensor | None]


class _Expected(NamedTuple):
    """The results of a task alone.

    Attributes:
        batches: two batches; the same twice if the task has only one.
        weights: weights by name, per copy of the model.
        found: results per copy and batch.
    """

    batches: list[Any]
    weights: list[dict[str, Tensor]]
    found: list[list[_Gradients]]


def _expected_of(task: Task) -> _Expected:
    """Return the results of a task alone.

    Raises:
        CannotStackError: the loss draws random numbers, writes to buffers or keeps a state.
    """
    import torch

    batches, weights = _first_two(task), list(_copies(task.model))
    generators = Generators(task)
    buffers, drawn = hash_of(dict(task.model.named_buffers())), generators.now()
    found = []
    for copy in weights:
        with torch.no_grad():
            for name, each in task.model.named_parameters():
                each.copy_(copy[name])
        found.append([_gradients(task, batches[nth]) for nth in (0, 1, 1, 0)])  # again in reverse order
    if not _same_state(generators.now(), drawn):
        raise CannotStackError("its loss draws random numbers (dropout does)")
    if hash_of(dict(task.model.named_buffers())) != buffers:
        raise CannotStackError("its model writes to its buffers (BatchNorm does)")
    if any(hash_of(each[:2]) != hash_of(each[:1:-1]) for each in found):
        raise CannotStackError("its loss keeps a state between batches")
    return _Expected(batches, weights, [each[:2] for each in found])


def _gradients(task: Task, batch: Any) -> _Gradients:
    task.model.zero_grad(set_to_none=True)
    try:
        loss, items = mean_and_items(task.loss(task.model, batch))
        loss.backward()
    except Exception as error:  # user code: engine `loop` reports the details
        raise CannotStackError(f"its loss raises {type(error).__name__}") from None
    grads = {name: each.grad for name, each in task.model.named_parameters() if each.requires_grad}
    if all(each is None for each in grads.values()):  # engine `loop` reports it
        raise CannotStackError("its loss gives no parameter a gradient")
    if any(each is not None and each.is_sparse for each in grads.values()):
        raise CannotStackError("its gradients are sparse")
    return _Gradients(loss.detach(), items, grads)


def _first_two(task: Task) -> list[Any]:
    """Return two batches; the same twice if the task has only one."""
    batches, hashes = [], []
    try:
        for batch in islice(task.batches, 2):
            batches.append(batch)
            hashes.append(hash_of(batch))
        changed = [hash_of(batch) for batch in batches] != hashes
    except Exception as error:  # as above
        raise CannotStackError(f"its batches raise {type(error).__name__}") from None
    if not batches:
        raise CannotStackError("it has no batch")
    if changed:
        raise CannotStackError("drawing its next batch overwrites the last")
    return (batches * 2)[:2]


def _copies(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Yield the model's weights, then the weights moved by about 1 % of their size."""
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


def _same_state(one: Any, other: Any) -> bool:
    """Return whether two states of generators are equal; lists of integers are compared as a whole, for speed."""
    if isinstance(one, dict):
        return all(_same_state(each, other[key]) for key, each in one.items())
    if isinstance(one, list | tuple) and not all(isinstance(each, int) for each in one):
        return len(one) == len(other) and all(map(_same_state, one, other))
    return bool((one == other).all()) if hasattr(one, "shape") else bool(one == other)


def _compared(tasks: Sequence[Task], alone: list[_Expected]) -> Stackability:
    """Compute the same batches as a stack, and compare the results with those of each task alone."""
    import torch

    try:
        members = [Member(zero_grad(), nth) for nth in range(len(tasks)) for _ in range(COPIES)]
        stack = Stack(tasks, members)
        (group,) = stack.groups
        complete = not any(split_batch(batch)[1] for each in alone for batch in each.batches)
        copies = [weights for each in alone for weights in each.weights]
        with torch.no_grad():
            for name, parameter in group.parameters.items():
                parameter.copy_(torch.stack([weights[name] for weights in copies]))
        for nth in (0, 1):
            losses, items = stack.losses([each.batches[nth] for each in alone])
            losses.sum().backward()  # type: ignore[no-untyped-call]  # torch's
            expected = [copy[nth] for each in alone for copy in each.found]
            if not _agree(losses.detach(), items, group.gradients, expected):
                return Stackability("its loss or gradient differs if runs are stacked")
            complete &= all(each is not None for each in group.gradients.values())
            group.keep_gradients()
    except CannotStackError:
        raise
    except Exception as error:  # vmap raises several types
        why = shortened(str(error).partition("\n")[0].partition(". ")[0], 90)
        return Stackability(f"torch.func.vmap cannot compute its loss: {why or type(error).__name__}")
    return Stackability("", items is not None, complete and items is None)


def _agree(losses: Tensor, items: Tensor | None, grads: dict[str, Tensor | None], expected: list[_Gradients]) -> bool:
    """Return whether each run's losses, items and gradients equal those of the model alone, within the tolerance."""
    if items is not None and [float(each) for each in items] != [float(each.items or 0) for each in expected]:
        return False
    if not all(_close(loss, found.loss.reshape(())) for loss, found in zip(losses, expected, strict=True)):
        return False
    floor = max((_largest(each) for each in expected[0].grads.values() if each is not None), default=0.0)
    for name, grad in grads.items():
        wanted = [found.grads[name] for found in expected]
        if grad is None:
            if any(each is not None for each in wanted):
                return False
        elif not all(_close(one, each, floor) for one, each in zip(grad, wanted, strict=True)):
            return False
    return True


def _close(found: Tensor, expected: Tensor | None, floor: float = 0.0) -> bool:
    """Return whether two tensors are equal within TOLERANCE times the larger of their maximum and 1 % of `floor`."""
    import torch

    if expected is None or expected.shape != found.shape or expected.dtype != found.dtype:
        return False
    within = TOLERANCE[expected.element_size()] * max(_largest(expected), 0.01 * floor)
    return torch.allclose(found, expected, rtol=0.0, atol=within, equal_nan=True)


def _largest(tensor: Tensor) -> float:
    import torch

    finite = tensor.detach().abs()[torch.isfinite(tensor)]
    return float(finite.max()) if finite.numel() else 0.0


SHAPES = ((4, 5), (4,), (), (2, 3, 2, 2))  # of parameters: an optimizer may treat vectors unlike matrices


def _is_elementwise(build: Build) -> bool:
    """Return whether the optimizer updates a stack of three parameters like each one alone."""
    import torch

    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(3, *shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    stacked, *single = (
        [torch.nn.Parameter(each.clone()) for each in some] for some in (starts, *zip(*starts, strict=True))
    )
    try:
        made = [build(each) for each in (stacked, *single)]
        for _ in range(3):
            for nth, start in enumerate(starts):
                grads = torch.randn(start.shape, generator=generator, dtype=torch.float64)
                for run, scale in enumerate((1.0, 10.0, 0.1)):  # exposes a norm over the stack
                    grads[run] *= scale
                for parameters, grad in zip((stacked, *single), (grads, *grads), strict=True):
                    parameters[nth].grad = grad.clone()
            for optimizer in made:
                optimizer.step()
    except Exception:  # it rejects stacks, dense gradients, or its options
        return False
    return all(
        _same_updates(one.detach(), [each.detach() for each in some])
        for one, *some in zip(stacked, *single, strict=True)
    )


def _same_updates(stacked: Tensor, single: list[Tensor]) -> bool:
    import torch

    return torch.allclose(stacked, torch.stack(single), rtol=1e-12, atol=1e-12)


def can_join(builds: Sequence[Build]) -> bool:
    """Return whether one optimizer with several parameter groups updates them like several optimizers.

    A user's optimizer may read its options from elsewhere than the groups. Only the first and the last are compared.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    first = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    chosen = [builds[0], builds[-1]]
    alone, together = ([torch.nn.Parameter(first.clone()) for _ in chosen] for _ in range(2))
    try:
        separate = [build([each]) for build, each in zip(chosen, alone, strict=True)]
        joined = optimizers.joined([build([each]) for build, each in zip(chosen, together, strict=True)])
        for _ in range(3):
            grad = torch.randn(2, 3, generator=generator, dtype=torch.float64)
            for parameter in (*alone, *together):
                parameter.grad = grad.clone()
            for optimizer in (*separate, *joined):
                optimizer.step()
    except Exception:  # the training uses them separately
        return False
    return all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))
