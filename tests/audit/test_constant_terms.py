"""Terms of a loss without a graph."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - as everyone writes it
from torch.utils.checkpoint import checkpoint

from gradlab.audit.recording.constant_terms import UnknownValueError, constant_term

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Made = Callable[[Tensor], Tensor]


def outputs() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 3, generator=generator).requires_grad_() * 1.0


LABELS = torch.tensor([0, 1, 2, 1, -100, 0])
WEIGHTS = torch.tensor([0.2, 0.5, 0.3])
TARGET = torch.linspace(0, 1, 18).reshape(6, 3)


@pytest.mark.parametrize(
    "loss",
    [
        lambda out: F.mse_loss(out, TARGET),
        lambda out: F.mse_loss(out, TARGET, reduction="sum"),
        lambda out: F.cross_entropy(out, LABELS, weight=WEIGHTS),
        lambda out: F.binary_cross_entropy(out.sigmoid(), TARGET),
        lambda out: F.binary_cross_entropy_with_logits(out, TARGET, pos_weight=WEIGHTS),
        lambda out: F.smooth_l1_loss(out, TARGET, beta=0.5),
        lambda out: F.huber_loss(out, TARGET, delta=0.7),
        lambda out: F.l1_loss(out, TARGET),
        lambda out: ((out - TARGET) ** 2).sum(),
        lambda out: 0.5 * F.mse_loss(out, TARGET) + F.l1_loss(out, TARGET) / 3,
    ],
)
def test_the_term_is_the_loss_minus_all_others(loss: Made) -> None:
    made = loss(outputs())
    assert constant_term(made) is None
    for term in (0.25, torch.tensor(-0.7), made.detach()):
        value = float(term)
        for whole, scale in ((made + term, 1), (term + made, 1), (made - term, -1), ((made + term) * 1024, 1)):
            found = constant_term(whole)
            assert found is not None
            assert math.isclose(found.value, value, rel_tol=1e-4, abs_tol=1e-6)  # float32
            assert math.isclose(found.loss, scale * float(made.detach()) + value, rel_tol=1e-4, abs_tol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [
        lambda out: out.exp().mean() + 1,
        lambda out: out.exp().sum() + 1,
        lambda out: F.mse_loss(out, TARGET).sqrt() + 1,
        lambda out: F.mse_loss(out, TARGET) * out.mean() + 1,
        lambda out: 1 + (F.mse_loss(out, TARGET) + 1) / 2,  # two different factors
        lambda out: checkpoint(lambda each: F.mse_loss(each, TARGET), out, use_reentrant=False) + 1,
        lambda out: sum((F.mse_loss(out, TARGET) for _ in range(40)), torch.tensor(1.0)),  # too many
    ],
)
def test_other_values_are_unknown(loss: Made) -> None:
    with pytest.raises(UnknownValueError):
        constant_term(loss(outputs()))


@pytest.mark.parametrize("loss", [lambda out: out, lambda _out: torch.ones(1), lambda out: out.exp().mean()])
def test_without_a_sum_nothing_is_missing(loss: Made) -> None:
    assert constant_term(loss(outputs())) is None
