"""Comparing gradients: what counts as equal, as a multiple, as clipped."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradlab.comparison.gradients import are_equal, are_shrunk, is_empty, misfit, scaled

ONE = torch.tensor([1.0, -2.0, 3.0])


def test_equal_gradients() -> None:
    assert are_equal(ONE, ONE * (1 + 1e-7))
    assert not are_equal(ONE, ONE * 1.001)
    assert are_equal(ONE.half(), (ONE * 1.001).half())
    assert not are_equal(ONE, ONE[:2])
    assert are_equal(None, 0 * ONE)
    assert not are_equal(None, ONE)
    assert are_equal(ONE * math.nan, ONE * math.nan)
    assert are_equal(torch.ones(0), torch.ones(0))
    assert not are_equal(torch.ones(1), torch.tensor([math.nan]))


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
def test_sparse_and_complex_gradients() -> None:
    sparse = torch.sparse_coo_tensor(torch.tensor([[0, 2]]), torch.tensor([1.0, 2.0]), (4,), check_invariants=True)
    assert are_equal(sparse, sparse.to_dense())
    assert not is_empty(sparse)
    assert misfit([sparse], [2 * sparse]) == pytest.approx(0)
    assert misfit([torch.tensor([1 + 1j])], [torch.tensor([1 - 1j])]) == pytest.approx(1)


@settings(deadline=None)
@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_positive_multiples_of_each_parameter_fit(one: float, other: float) -> None:
    assert misfit([one * ONE, other * ONE, None], [ONE, ONE, ONE]) < 1e-6


def test_what_does_not_fit() -> None:
    assert misfit([-ONE], [ONE]) == 1
    assert misfit([ONE], [None]) == 1
    assert misfit([ONE], [torch.tensor([2.0, 1.0, 0.0])]) == pytest.approx(1)
    assert misfit([None], [ONE]) == 0
    assert math.isnan(misfit([ONE * math.inf], [ONE]))
    assert math.isnan(misfit([ONE], [ONE * math.inf]))


def test_numbers_that_were_only_made_smaller() -> None:
    assert are_shrunk([ONE.clamp(-1, 1), None, 0 * ONE], [ONE, ONE, None])
    assert not are_shrunk([2 * ONE], [ONE])
    assert not are_shrunk([-ONE], [ONE])
    assert not are_shrunk([ONE], [None])


def test_scaled_gradients_are_new() -> None:
    for factors, by in (((1.0,), 1), ((0.5, 4.0), 2)):
        (found, nothing) = scaled([ONE, None], factors)
        assert nothing is None
        assert found is not None
        assert torch.equal(found, by * ONE)
        assert found is not ONE
