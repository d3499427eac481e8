"""Samples of gradients, and the share of one in another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from gradlab import audit
from gradlab.audit.recording import samples

if TYPE_CHECKING:
    import pytest


def test_what_is_no_multiple_of_the_gradient_is_no_share_of_it() -> None:
    assert samples.share((1.0, 0.0), (1.0, 1.0)) is None


def test_a_complex_share_is_that_of_the_real_inner_product() -> None:
    assert samples.share((1 + 1j, 2j), (2 + 2j, 4j)) == 0.5


def test_elements_in_usual_windows_are_no_longer_read(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, read = torch.ones(3, requires_grad=True), []
    optimizer = torch.optim.SGD([weight], lr=0.01)
    original = samples.sample

    def loss() -> Any:
        return weight.square().sum()

    def counted(grad: torch.Tensor) -> samples.Sample:
        read.append(grad.shape)
        return original(grad)

    def update(share: float = 1.0) -> int:
        optimizer.zero_grad()
        loss().backward()
        assert weight.grad is not None
        if share != 1:
            weight.grad *= share
        loss().backward()
        optimizer.step()
        return len(read)

    with audit.watch(1) as report:
        monkeypatch.setattr(samples, "sample", counted)
        for _ in range(10):
            update()
        assert update() == update()
        for _ in range(4):
            update(0.5)
    joins = [each.joins for each in report.history.optimizers[0].measured]
    assert joins[:12] == [(1.0,)] * 12
    assert joins[12:] == [(), (0.5,), (0.5,), (0.5,)]  # the first change only starts the reading again


def test_only_nan_and_inf_on_the_cpu_are_lost_numbers() -> None:
    lost = [math.nan, math.inf, 1.0, [math.nan], complex(0, math.inf)]
    assert [samples.is_lost_number(torch.tensor(each)) for each in lost] == [True, True, False, False, True]
    assert not samples.is_lost_number(torch.tensor(math.nan, device="meta"))
    assert not samples.is_lost_number(math.nan)


def test_in_a_transform_no_number_is_lost_and_none_is_read() -> None:
    seen = []

    def look(row: torch.Tensor) -> torch.Tensor:
        seen.append(samples.is_lost_number(row))
        return row

    torch.func.vmap(look)(torch.full((2,), math.nan))
    assert seen == [False]
