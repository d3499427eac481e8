"""What a function does to tensors, recorded as a graph while it runs once.

As `torch.fx.experimental.proxy_tensor.make_fx` does; but that imports torch's compiler, which takes a second.
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

LAYOUT = "layout"  # in the meta of a node that is a tensor: its shape and strides


def trace(function: Callable[..., Any], given: Sequence[Sequence[Tensor]]) -> GraphModule:
    """Return a module that does to other tensors what the function did to these.

    A tensor that is not among those given is taken as it is then; what Python computed stays as it was.

    Args:
        function: takes sequences of tensors, and returns tensors in tuples and lists.
        given: these sequences.

    Raises:
        CannotStackError: the function takes a number out of a tensor, and what it does may depend on that.
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
    """A graph that grows by an operation at a time.

    Attributes:
        held: has the tensors that come from elsewhere.
    """

    def __init__(self) -> None:
        import torch

        self.graph, self.held = torch.fx.Graph(), torch.nn.Module()
        self._nodes: dict[int, Node] = {}
        self._alive: list[Tensor] = []  # each that has a node, so that no other gets its id

    def put(self, found: Any, node: Node) -> None:
        """Note that the node is this tensor, or a sequence that has tensors in it."""
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
        """Return the node of a tensor; a tensor that has none comes from elsewhere."""
        if id(tensor) not in self._nodes:
            name = f"constant{len(self._alive)}"
            self.held.register_buffer(name, tensor)
            self.put(tensor, self.graph.get_attr(name))
        return self._nodes[id(tensor)]

    def call(self, operation: Any, args: Any, options: Any) -> Any:
        """Return what the operation gives, and add it to the graph."""
        import torch
        from torch.utils._pytree import tree_map_only

        if torch.Tag.data_dependent_output in operation.tags:
            raise CannotStackError("its loss takes a number out of a tensor")
        if operation is torch.ops.aten.lift_fresh.default:  # a constant, which must not keep what is written to it
            operation = torch.ops.aten.lift_fresh_copy.default
        found = operation(*args, **options)
        nodes = tree_map_only(torch.Tensor, self.node_of, (args, options))
        self.put(found, self.graph.call_function(operation, *nodes))
        return found


def _dispatching_to(recording: _Recording) -> AbstractContextManager[object]:
    """Return what has all operations recorded while it is entered."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class _RecordingMode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's __init_subclass__
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # to keep the compiler out, torch would import it

        def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return recording.call(func, args, kwargs or {})

    made: AbstractContextManager[object] = _RecordingMode()  # type: ignore[no-untyped-call]  # torch's
    return made
