"""Samples of gradients, and the share of one in another."""

from __future__ import annotations

import math

import torch

from gradlab.audit.recording import samples


def test_what_is_no_multiple_of_the_gradient_is_no_share_of_it() -> None:
    assert samples.share((1.0, 0.0), (1.0, 1.0)) is None


def test_a_complex_share_is_that_of_the_real_inner_product() -> None:
    assert samples.share((1 + 1j, 2j), (2 + 2j, 4j)) == 0.5


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
