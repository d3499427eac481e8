"""The compiled step: gradients of all runs and the rule in one piece of machine code, made by torch.compile."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from gradlab.ensemble.drawing import CannotStackError, together
from gradlab.errors import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from gradlab.ensemble.stack import Stack

    Gradients = Callable[[list[Tensor], list[Tensor], Tensor, Tensor, list[Tensor], list[Tensor]], Tensor]


class CompiledSteps:
    """Compiled steps by the shapes they are for, so that ensembles of one task that are alike compile once.

    Attributes:
        fault: why compiling failed, once it has: no compiler is at hand; from then on nothing is compiled.
    """

    def __init__(self) -> None:
        self.fault = ""
        self._made: dict[object, Gradients] = {}

    def add_gradients(self, stack: Stack, batches: Sequence[Any], share: float) -> Tensor | None:
        """Leave keep × gradient in `.grad` where that is due, add share × the gradients of these batches, and return
        the losses, shape (runs,); None where it cannot be compiled.

        Raises:
            CannotStackError: the batches of the tasks are not alike.
        """
        import torch

        parts = together(batches)
        if parts is None:
            raise CannotStackError("its batches are not alike")
        (group,) = stack.groups
        tensors = (
            [each[stack.task_of] for each in parts.stacked] if len(batches) > 1 else [t[0] for t in parts.stacked]
        )
        parameters = [each.detach() for each in group.parameters.values()]
        grads = [each.grad if each.grad is not None else torch.zeros_like(each) for each in group.parameters.values()]
        for parameter, grad in zip(group.parameters.values(), grads, strict=True):
            parameter.grad = grad
        still = list(stack.still_of_all.values()) if len(batches) > 1 else list(stack.still[0].values())
        factor = group.factor()
        given = (parameters, grads, factor, torch.tensor(share, dtype=factor.dtype), still, tensors)
        key = (
            len(batches) > 1,
            tuple((each.shape, each.dtype, each.stride()) for each in (*parameters, *still, *tensors)),
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what torch says of its own parts
                if key not in self._made:
                    self._made[key] = _compiled(stack, parts.batch, given, several=len(batches) > 1)
                losses = self._made[key](*given)
        except Exception as error:  # of many kinds: no compiler, no room for its files, what it cannot translate
            self.fault = shortened(str(error).strip().splitlines()[0] if str(error).strip() else repr(error), 120)
            return None
        group.due = False
        return losses


def _compiled(stack: Stack, batch_of: Callable[[Sequence[Tensor]], Any], given: Any, *, several: bool) -> Gradients:
    """Trace the step with what it is given, as operations on stacked tensors alone, and compile it."""
    import torch
    from torch.func import functional_call, grad_and_value, vmap
    from torch.fx.experimental.proxy_tensor import make_fx

    (group,) = stack.groups
    names = [f"model.{name}" for name in group.parameters]
    still_names = list(stack.still[0])

    def loss(parameters: list[Tensor], still: list[Tensor], tensors: list[Tensor]) -> Tensor:
        named = {**dict(zip(names, parameters, strict=True)), **dict(zip(still_names, still, strict=True))}
        found: Tensor = functional_call(stack.parts[0], named, (batch_of(tensors),))
        return found

    alone = None if not several else 0
    gradients = vmap(grad_and_value(loss), in_dims=(0, alone, alone))

    def step(
        parameters: list[Tensor], grads: list[Tensor], factor: Tensor, share: Tensor, still: list[Tensor],
        tensors: list[Tensor],
    ) -> Tensor:  # fmt: skip
        found, losses = gradients(parameters, still, tensors)
        for grad, new in zip(grads, found, strict=True):
            kept = factor.view(-1, *[1] * (grad.dim() - 1))
            grad.copy_(torch.where(kept == 0, 0.0, grad * kept) + share * new)  # and not 0 × inf
        done: Tensor = losses
        return done

    traced = make_fx(step)(*[_copied(each) for each in given])
    made: Gradients = torch.compile(traced, dynamic=False)
    return made


def _copied(given: Any) -> Any:
    return [each.clone() for each in given] if isinstance(given, list) else given.clone()
