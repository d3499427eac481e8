"""A trace of a function does to other tensors what the function did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_leaves

from gradlab.engines.ensemble import (
    CannotStackError,
    traced_step,
)
from gradlab.engines.ensemble.tracing import trace
from tests.ensemble.test_loop import built
from tests.ensemble.test_traced_step import gradients, operations

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("noisy_line", {}),
        ("straight_line", {}),
        ("linear_4x3", {}),
        ("digits", {"hidden": 4}),
        ("echo", {"length": 8, "chunk": 4}),
    ],
)
def test_a_trace_has_the_operations_of_make_fx(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = built(name, options, 3)
    ours, given = gradients(task)
    monkeypatch.setattr(traced_step, "_grad_and_value", torch.func.grad_and_value)
    theirs, _ = gradients(task)
    one, other = trace(ours, given), make_fx(theirs)(*given)
    assert operations(one) == operations(other) != []
    found, expected = tree_leaves(one(*given)), tree_leaves(other(*given))
    assert all(map(torch.equal, found, expected))


def test_a_trace_applies_to_other_tensors() -> None:
    def function(tensors: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        largest, _ = tensors[0].max(dim=0)  # one operation that returns two tensors
        return largest, [tensors[1].clone().mul_(largest)]

    done = trace(function, [[torch.eye(2), torch.ones(2)]])
    largest, (product,) = done([torch.tensor([[1.0, 5.0], [4.0, 2.0]]), torch.tensor([10.0, 100.0])])
    assert (largest.tolist(), product.tolist()) == ([4.0, 5.0], [40.0, 500.0])


def test_a_constant_is_traced_as_it_was_made() -> None:
    def function(tensors: list[Tensor]) -> Tensor:
        return torch.tensor(2.0).mul_(tensors[0])

    done = trace(function, [[torch.tensor(3.0)]])
    assert [done([torch.tensor(each)]).item() for each in (3.0, 3.0, 5.0)] == [6.0, 6.0, 10.0]


def test_a_tensor_from_elsewhere_is_traced_as_itself() -> None:
    factor = torch.tensor(2.0)
    done = trace(lambda tensors: tensors[0] * factor, [[torch.tensor(3.0)]])
    factor.fill_(10.0)
    assert done([torch.tensor(3.0)]).item() == 30.0


@pytest.mark.parametrize("take", [lambda each: each.item(), bool, lambda each: torch.equal(each, each + 1)])
def test_taking_a_number_out_of_a_tensor_cannot_be_traced(take: Callable[[Tensor], object]) -> None:
    with pytest.raises(CannotStackError, match=r"^its loss reads a number from a tensor$"):
        trace(lambda tensors: (take(tensors[0]), tensors[0])[1], [[torch.tensor(3.0)]])
