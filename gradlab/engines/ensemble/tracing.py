"""Record the tensor operations of a function as a graph, by running it once.

`torch.fx.experimental.proxy_tensor.make_fx` does the same, but imports torch's compiler, which takes a second.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from gradlab.engines.ensemble.batches import CannotStackError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor
    from torch.fx import GraphModule, Node

LAYOUT = "layout"  # key in a node's meta: shape and strides of its tensor


def trace(function: Callable[..., Any], given: Sequence[Sequence[Tensor]]) -> GraphModule:
    """Return a module that repeats the function's tensor operations on other inputs.

    All other tensors and all Python values become constants.

    Args:
        function: takes sequences of tensors, and returns tensors in tuples and lists.
        given: the sequences to trace it with.

    Raises:
        CannotStackError: the function reads a number from a tensor, so its operations may depend on data.
    """
    from torch.fx import GraphModule
    from torch.utils._pytree import tree_map

    recording = _Recording()
    for nth, tensors in enumerate(given):
        recording.put(tensors, recording.graph.placeholder(f"given{nth}"))
    with _dispatching_to(recording):
        found = function(*given)
    recording.graph.output(tree_map(recording.node_of, found))
    return GraphModule(recording.held, recording.graph)


class _Recording:
    """A graph that grows one operation at a time.

    Attributes:
        held: a module with the constant tensors.
    """

    def __init__(self) -> None:
        import torch

        self.graph, self.held = torch.fx.Graph(), torch.nn.Module()
        self._nodes: dict[int, Node] = {}
        self._alive: list[Tensor] = []  # all tensors with a node, kept alive so that their ids stay unique

    def put(self, found: Any, node: Node) -> None:
        """Map a tensor, or the tensors of a sequence, to the node."""
        import torch

        if isinstance(found, torch.Tensor):
            node.meta[LAYOUT] = (found.shape, found.stride())
            self._nodes[id(found)] = node
            self._alive.append(found)
        elif isinstance(found, list | tuple):
            for nth, each in enumerate(found):
                if isinstance(each, torch.Tensor):
                    self.put(each, self.graph.call_function(operator.getitem, (node, nth)))

    def node_of(self, tensor: Tensor) -> Node:
        """Return the node of a tensor; a tensor without one becomes a constant."""
        if id(tensor) not in self._nodes:
            name = f"constant{len(self._alive)}"
            self.held.register_buffer(name, tensor)
            self.put(tensor, self.graph.get_attr(name))
        return self._nodes[id(tensor)]

    def call(self, operation: Any, args: Any, options: Any) -> Any:
        """Run the operation, add it to the graph, and return its result."""
        import torch
        from torch.utils._pytree import tree_map_only

        if torch.Tag.data_dependent_output in operation.tags:
            raise CannotStackError("its loss reads a number from a tensor")
        if operation is torch.ops.aten.lift_fresh.default:  # copy the constant, so that writes do not change it
            operation = torch.ops.aten.lift_fresh_copy.default
        found = operation(*args, **options)
        nodes = tree_map_only(torch.Tensor, self.node_of, (args, options))
        self.put(found, self.graph.call_function(operation, *nodes))
        return found


def _dispatching_to(recording: _Recording) -> AbstractContextManager[object]:
    """Return a context manager that records all operations inside it."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class _RecordingMode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's __init_subclass__
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # True would import the compiler

        def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return recording.call(func, args, kwargs or {})

    made: AbstractContextManager[object] = _RecordingMode()  # type: ignore[no-untyped-call]  # torch's
    return made
