"""The divisor of a loss as read from its graph, compared with the actual gradient."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gradlab import audit
from gradlab.audit.recording import loss

if TYPE_CHECKING:
    from collections.abc import Callable


def of(weight: Tensor) -> Tensor:
    """Return a loss that is a mean."""
    return nn.functional.mse_loss(weight.outer(torch.arange(3.0)), torch.ones(2, 3))


def as_sum(weight: Tensor) -> Tensor:
    return weight.square().sum()


def sent(made: Tensor, weight: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(made, weight)
    return grad


SCALED: dict[str, Callable[[Tensor], Tensor]] = {
    "loss": lambda one: one,
    "loss / 4": lambda one: one / 4,
    "loss / 4 / 3": lambda one: one / 4 / 3,
    "loss * 0.25": lambda one: one * 0.25,
    "tensor * loss": lambda one: torch.tensor(0.25) * one,
    "loss / tensor": lambda one: one / torch.tensor(4.0),
    "(loss + 1) / 5": lambda one: (one + 1) / 5,
    "loss /= 4": lambda one: one.mul(1).div_(4),
    "double": lambda one: (one / 4).double(),
    "-loss": lambda one: one * -1,
    "squeezed": lambda one: (one / 4).unsqueeze(0).squeeze(),
}


@pytest.mark.parametrize("name", SCALED)
def test_the_factor_is_that_of_the_gradient(name: str) -> None:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    read = loss.read(SCALED[name](of(weight)))
    assert read.base == "mean"
    ratio = sent(SCALED[name](of(weight)), weight) / sent(of(weight), weight)
    assert ratio.tolist() == pytest.approx([read.factor] * 2, rel=1e-6)  # float32 precision


@pytest.mark.parametrize(
    ("make", "divisors", "twice"),
    [
        (lambda one, _: one / 4 / 4, (4, 4), True),
        (lambda one, _: one / 4, (4,), False),
        (lambda one, _: (one + one) / 4 / 4, (4, 4), False),  # perhaps a mean of terms
        (lambda _, total: total / 4 / 4, (4,), False),  # the first turns the sum into a mean
        (lambda _, total: total / 4 / 4 / 4, (4, 4), True),
        (lambda one, _: one / 4 / one, (), False),  # divided by a function of the weights
    ],
)
def test_what_divides_a_loss_twice(
    make: Callable[[Tensor, Tensor], Tensor], divisors: tuple[float, ...], twice: bool
) -> None:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    read = loss.read(make(of(weight), as_sum(weight)))
    assert (read.divisors, read.twice(4)) == (divisors, twice)


def test_a_mean_or_sum_is_undivided_and_a_quotient_is_not() -> None:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    made = [of(weight), as_sum(weight), as_sum(weight) / 8, of(weight) / 2, of(weight) + 0.1 * of(weight)]
    assert [loss.read(each).undivided for each in made] == [True, True, False, False, True]


def test_what_a_grad_scaler_multiplies_by_is_passed_over() -> None:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    scaled = torch.amp.GradScaler("cpu").scale(of(weight) / 4)
    assert loss.read(scaled, scaled=True).factor == 0.25


def test_what_was_packed_away_is_left_packed() -> None:
    calls = []

    def criterion(weight: Tensor) -> Tensor:
        calls.append(1)
        return of(weight) / torch.tensor(4.0)

    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    made = checkpoint(criterion, weight, use_reentrant=False) / 3
    read = loss.read(made)
    assert (len(calls), read.divisors, read.undivided, read.over(12)) == (1, (3,), False, False)
    made.backward()
    assert len(calls) == 2


def test_nothing_of_a_graph_is_kept() -> None:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    made = of(weight) / 4
    gone = weakref.ref(made)
    gc.disable()
    try:
        with audit.watch(1) as report:
            optimizer = torch.optim.SGD([weight], lr=0.1)
            made.backward()  # type: ignore[no-untyped-call]  # torch does not say
            optimizer.step()
            del made
            assert gone() is None
    finally:
        gc.enable()
    ((passes, read),) = report.history.optimizers[0].losses
    assert (passes, read.divisors, read.own) == (1, (4.0,), True)
