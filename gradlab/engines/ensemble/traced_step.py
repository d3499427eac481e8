"""The traced step: the gradients of all runs as a recorded graph of operations on stacked tensors.

For small networks, the overhead of `vmap` and autograd is several times the computation. So the step is recorded once
and simplified. Later steps call the graph, or compile it together with the rule by torch.compile. The Python code of
the loss does not run again, except for a check of the losses every few hundred steps.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from gradlab.engines.ensemble.batches import CannotStackError, StackedBatches, stack_batches
from gradlab.engines.ensemble.tracing import LAYOUT, trace
from gradlab.errors import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from torch.fx import GraphModule, Node

    from gradlab.engines.ensemble.stack import Stack, StackedGradients

    Step = Callable[..., Any]
    Inputs = tuple[list[Tensor], list[Tensor], list[Tensor]]  # parameters, constants, tensors of batches


class TracedSteps:
    """Traced steps, cached by the shapes of their inputs, so that equal stacks of a task share a trace.

    Attributes:
        compiled: whether steps are compiled.
        fault: why tracing or compiling failed; "" while it works. After a failure, steps are no longer traced.
    """

    def __init__(self, *, compiled: bool = False) -> None:
        self.compiled = compiled
        self.fault = ""
        self._steps: dict[object, Step] = {}

    def add_gradients(self, stack: Stack, batches: Sequence[Any], share: float) -> Tensor | None:
        """Apply `keep` if pending, then add share × the gradients of these batches to `.grad`.

        Returns:
            The losses, shape (runs,); None if the step cannot be traced or compiled.

        Raises:
            CannotStackError: the batches of the tasks differ in shape or type.
        """
        import torch

        stacked = stack_batches(batches)
        if stacked is None:
            raise CannotStackError("its batches differ in shape or type")
        assert stack.deferred is not None, "traced steps need a stack with deferred keep"
        one_task = len(batches) == 1
        tensors = [each[0] if one_task else each[stack.task_of] for each in stacked.tensors]
        constants = list((stack.constants[0] if one_task else stack.stacked_constants).values())
        inputs = (list(stack.deferred.parameters.values()), constants, tensors)
        key = (one_task, tuple((each.shape, each.dtype, each.stride()) for some in inputs for each in some))
        try:
            with torch.no_grad():
                if key not in self._steps:
                    self._steps[key] = self._step(stack, stack.deferred, stacked, inputs, one_task=one_task)
                losses: Tensor = self._steps[key](stack.deferred, share, *inputs)
        except Exception as error:  # for example no compiler, a full disk, an unsupported operation
            self.fault = shortened(str(error).strip().partition("\n")[0] or repr(error), 120)
            return None
        stack.deferred.keep_pending = False
        return losses

    def _step(
        self, stack: Stack, held: StackedGradients, batches: StackedBatches, inputs: Inputs, *, one_task: bool
    ) -> Step:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about torch's internals
            gradients = _simplified(_gradients(stack, batches, one_task=one_task), inputs)
            return _compiled(gradients, held, inputs) if self.compiled else _eager(gradients)


def _gradients(stack: Stack, batches: StackedBatches, *, one_task: bool) -> Step:
    """Return a function from parameters, constants and batch tensors to the gradients and losses of all runs."""
    from torch.func import functional_call, vmap

    names = [f"model.{name}" for name in stack.groups[0].parameters]

    def loss(parameters: list[Tensor], constants: list[Tensor], tensors: list[Tensor]) -> Any:
        by_name = dict(zip([*names, *stack.constants[0]], [*parameters, *constants], strict=True))
        return functional_call(stack.loss_modules[0], by_name, (batches.rebuild(tensors),))

    shared = None if one_task else 0
    step: Step = vmap(_grad_and_value(loss), in_dims=(0, shared, shared))
    return step


def _grad_and_value(loss: Callable[..., Tensor]) -> Step:
    """Return torch.func.grad_and_value of a loss, for the tensors of its first argument.

    Torch's version imports the compiler. This one uses torch's private parts instead, if they exist.
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


def _simplified(function: Step, inputs: Inputs) -> GraphModule:
    """Return the function as a graph of operations, without operations that have no effect."""
    import torch

    with torch.enable_grad():
        graph = trace(function, [[each.clone() for each in some] for some in inputs])
    for node in list(graph.graph.nodes):
        if (same := _same_as(node)) is not None:
            node.replace_all_uses_with(same)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _same_as(node: Node) -> Node | None:
    """Return the argument of an operation without effect: 1·x, a view of the same shape, a double transpose."""
    import torch

    aten = torch.ops.aten
    first: Any = node.args[0] if node.args else None
    if not isinstance(first, torch.fx.Node):
        return None
    if node.target in (aten.expand.default, aten.view.default, aten._unsafe_view.default):  # noqa: SLF001 - its name
        before, after = first.meta.get(LAYOUT), node.meta.get(LAYOUT)
        return first if before is not None and before == after else None
    if node.target is aten.mul.Scalar and node.args[1] == 1 and type(node.args[1]) is int:
        return None if any(map(_writes, (*node.users, *first.users))) else first
    twice = node.target is aten.transpose.int and first.target is node.target and first.args[1:] == node.args[1:]
    return first.args[0] if twice and isinstance(first.args[0], torch.fx.Node) else None


def _writes(node: Node) -> bool:
    """Return whether an operation writes to one of its arguments."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def _eager(gradients: GraphModule) -> Step:
    """Return a step that calls the graph, then applies the rule."""

    def step(held: StackedGradients, share: float, *inputs: list[Tensor]) -> Any:
        found, losses = gradients(*inputs)
        held.add(found, share)
        return losses

    return step


def _compiled(gradients: GraphModule, held: StackedGradients, inputs: Inputs) -> Step:
    """Return a compiled step that includes the rule."""
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    def with_rule(grads: list[Tensor], factor: Tensor, share: Tensor, *inputs: list[Tensor]) -> Any:
        found, losses = gradients(*inputs)
        for grad, new in zip(grads, found, strict=True):
            kept = factor.view(-1, *[1] * (grad.dim() - 1))
            grad.copy_(torch.where(kept == 0, 0.0, grad * kept) + share * new)  # 0 × inf would be NaN
        return losses

    def rule_inputs(held: StackedGradients, share: float) -> tuple[list[Tensor], Tensor, Tensor]:
        return list(held.grads.values()), held.factor, torch.tensor(share, dtype=held.factor.dtype)

    grads, factor, one = rule_inputs(held, 1.0)
    compiled = torch.compile(make_fx(with_rule)([each.clone() for each in grads], factor, one, *inputs), dynamic=False)
    compiled([each.clone() for each in grads], factor, one, *inputs)  # the first call compiles

    def step(held: StackedGradients, share: float, *inputs: list[Tensor]) -> Any:
        return compiled(*rule_inputs(held, share), *inputs)

    return step
