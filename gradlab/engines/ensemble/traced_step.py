"""The traced step: the gradients of all runs as operations on stacked tensors alone, recorded once.

`vmap` and autograd decide anew at each step what they did at the one before, which costs a small network several
times what it computes. So the step is recorded, what changes nothing is taken out, and what is left is called, or
compiled by torch.compile, the rule with it. What a loss does in Python is not done again then: now and then it is.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from gradlab.engines.ensemble.batches import CannotStackError, together
from gradlab.engines.ensemble.tracing import FORM, recorded
from gradlab.errors import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from torch.fx import GraphModule, Node

    from gradlab.engines.ensemble.stack import Stack, Whole

    Step = Callable[..., Any]


class TracedSteps:
    """Traced steps by the shapes that they are for, so that stacks of one task that are alike are traced once.

    Attributes:
        compiled: whether steps are compiled.
        fault: why a step could not be traced or compiled, once one could not; from then on none is.
    """

    def __init__(self, *, compiled: bool = False) -> None:
        self.compiled = compiled
        self.fault = ""
        self._made: dict[object, Step] = {}

    def add_gradients(self, stack: Stack, batches: Sequence[Any], share: float) -> Tensor | None:
        """Leave keep × gradient in `.grad` where that is due, and add share × the gradients of these batches.

        Returns:
            The losses, shape (runs,); None where the step cannot be traced or compiled.

        Raises:
            CannotStackError: the batches of the tasks are not alike.
        """
        import torch

        parts = together(batches)
        if parts is None:
            raise CannotStackError("its batches are not alike")
        several = len(batches) > 1
        tensors = [each[stack.task_of] if several else each[0] for each in parts.stacked]
        assert stack.whole is not None, "the stack applies the rule itself"
        parameters = list(stack.whole.parameters.values())
        still = list(stack.still_of_all.values()) if several else list(stack.still[0].values())
        given = (parameters, still, tensors)
        key = (several, tuple((each.shape, each.dtype, each.stride()) for each in (*parameters, *still, *tensors)))
        try:
            with torch.no_grad():
                if key not in self._made:
                    self._made[key] = self._step(stack, stack.whole, parts.batch, given, several=several)
                losses: Tensor = self._made[key](stack.whole, share, *given)
        except Exception as error:  # of many kinds: no compiler, no room for its files, what it cannot translate
            self.fault = shortened(str(error).strip().partition("\n")[0] or repr(error), 120)
            return None
        stack.whole.due = False
        return losses

    def _step(
        self, stack: Stack, whole: Whole, batch_of: Callable[[Sequence[Tensor]], Any], given: Any, *, several: bool
    ) -> Callable[..., Tensor]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch says of its own parts
            gradients = _traced(_gradients(stack, batch_of, several=several), given)
            return _compiled(gradients, whole, given) if self.compiled else _called(gradients)


def _gradients(stack: Stack, batch_of: Callable[[Sequence[Tensor]], Any], *, several: bool) -> Step:
    """Return what gives the gradients and losses of all runs, of parameters, still ones and tensors of batches."""
    from torch.func import functional_call, vmap

    names = [f"model.{name}" for name in stack.groups[0].parameters]
    still_names = list(stack.still[0])

    def loss(parameters: list[Tensor], still: list[Tensor], tensors: list[Tensor]) -> Tensor:
        named = {**dict(zip(names, parameters, strict=True)), **dict(zip(still_names, still, strict=True))}
        found: Tensor = functional_call(stack.parts[0], named, (batch_of(tensors),))
        return found

    alone = 0 if several else None
    made: Step = vmap(_grad_and_value(loss), in_dims=(0, alone, alone))
    return made


def _grad_and_value(loss: Callable[..., Tensor]) -> Step:
    """Return what gives the gradients of a loss for the tensors of its first argument, and the loss.

    That is torch.func.grad_and_value, which imports the compiler to tell it that a gradient is computed; so its parts
    are put together without that here, wherever torch has them.
    """
    import torch

    try:
        from torch._functorch.eager_transforms import (
            _create_differentiable,
            _undo_create_differentiable,
            _wrap_all_tensors,
            grad_increment_nesting,
        )
    except ImportError:
        return torch.func.grad_and_value(loss)

    def both(*given: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        with grad_increment_nesting() as level, torch.enable_grad():
            parameters, *others = _wrap_all_tensors(given, level)
            for each in parameters:
                _create_differentiable(each, level)
            found = loss(parameters, *others)
            options: Any = {"create_graph": True, "allow_unused": True, "materialize_grads": True}
            grads: Any = torch.autograd.grad(found, parameters, **options)
            return list(_undo_create_differentiable(grads, level)), _undo_create_differentiable(found, level)

    return both


def _traced(function: Step, given: Any) -> GraphModule:
    """Return the function as a graph of operations, without those that change nothing."""
    import torch

    with torch.enable_grad():
        traced = recorded(function, [[each.clone() for each in some] for some in given])
    for node in list(traced.graph.nodes):
        if (same := _same_as(node)) is not None:
            node.replace_all_uses_with(same)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


def _same_as(node: Node) -> Node | None:
    """Return the operation's argument where its result is that: 1·x, x in its own shape, x transposed twice."""
    import torch

    aten = torch.ops.aten
    first: Any = node.args[0] if node.args else None
    if not isinstance(first, torch.fx.Node):
        return None
    if node.target in (aten.expand.default, aten.view.default, aten._unsafe_view.default):  # noqa: SLF001 - its name
        before, after = _form(first), _form(node)
        return first if before is not None and before == after else None
    if node.target is aten.mul.Scalar and node.args[1] == 1 and type(node.args[1]) is int:
        return None if any(map(_writes, (*node.users, *first.users))) else first
    twice = node.target is aten.transpose.int and first.target is node.target and first.args[1:] == node.args[1:]
    return first.args[0] if twice and isinstance(first.args[0], torch.fx.Node) else None


def _form(node: Node) -> tuple[Any, ...] | None:
    """Return shape and strides of what an operation returns, where it is a tensor."""
    return node.meta.get(FORM)


def _writes(node: Node) -> bool:
    """Say whether an operation writes to one of its arguments."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def _called(gradients: GraphModule) -> Callable[..., Tensor]:
    def step(whole: Whole, share: float, *given: list[Tensor]) -> Tensor:
        found, losses = gradients(*given)
        whole.add(found, share)
        done: Tensor = losses
        return done

    return step


def _compiled(gradients: GraphModule, whole: Whole, given: Any) -> Callable[..., Tensor]:
    """Return the step with the rule in it, compiled."""
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    def with_rule(grads: list[Tensor], factor: Tensor, share: Tensor, *given: list[Tensor]) -> Tensor:
        found, losses = gradients(*given)
        for grad, new in zip(grads, found, strict=True):
            kept = factor.view(-1, *[1] * (grad.dim() - 1))
            grad.copy_(torch.where(kept == 0, 0.0, grad * kept) + share * new)  # and not 0 × inf
        done: Tensor = losses
        return done

    def ruled(whole: Whole, share: float) -> tuple[list[Tensor], Tensor, Tensor]:
        factor = whole.factor
        return list(whole.grads.values()), factor, torch.tensor(share, dtype=factor.dtype)

    grads, factor, one = ruled(whole, 1.0)
    traced = make_fx(with_rule)([each.clone() for each in grads], factor, one, *given)
    made = torch.compile(traced, dynamic=False)
    made([each.clone() for each in grads], factor, one, *given)  # this compiles

    def step(whole: Whole, share: float, *given: list[Tensor]) -> Tensor:
        done: Tensor = made(*ruled(whole, share), *given)
        return done

    return step
