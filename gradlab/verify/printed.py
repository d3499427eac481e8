"""Commonly printed code: gradient descent by hand, and Adam on one sample."""

from __future__ import annotations

from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any

from gradlab import modes
from gradlab.verify.claim import Claim, FigureValue, Measurement
from gradlab.verify.training import copy_weights, max_difference, small_noisy_line, train, trained_alike

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

LITERAL = "with w -= lr * w.grad the last bits may differ"


def _error_name(action: Callable[[], object]) -> str:
    """Return the name of the error that `action` raises, or "runs"."""
    try:
        action()
    except (RuntimeError, TypeError, AttributeError) as error:
        return type(error).__name__
    return "runs"


def _descend_as_printed(*, double: bool, steps: int, lr: float) -> list[Tensor]:
    """Return the weights after `steps` steps of `w -= lr * w.grad` under no_grad."""
    import torch

    task = small_noisy_line(double=double)
    for batch in islice(chain.from_iterable(repeat(task.batches)), steps):
        task.loss(task.model, batch).backward()
        with torch.no_grad():
            for w in task.model.parameters():
                w -= lr * w.grad  # type: ignore[misc,operator]  # as printed
                w.grad = None
    return copy_weights(task.model)


def _vanilla_equals_sgd() -> Measurement:
    import torch

    identical, accurate, figures = [], [], dict[str, FigureValue]()
    for double, name, rounding in ((False, "float32", 1e-5), (True, "float64", 1e-13)):  # 200 steps, weights near 1
        sgd, vanilla = (
            train(small_noisy_line(double=double), modes.zero_grad(), optimizer, steps=200, lr=0.01)
            for optimizer in ("SGD", "vanilla")
        )
        literal = _descend_as_printed(double=double, steps=200, lr=0.01)
        identical.append(trained_alike(sgd, vanilla))
        accurate.append(max_difference(literal, sgd.weights) < rounding)
        figures[f"sub_ with alpha, {name}, 200 steps: weight difference"] = vanilla.distance(sgd)
        figures[f"w -= lr * w.grad, {name}, 200 steps: weight difference"] = max_difference(literal, sgd.weights)

    w = torch.ones(3, requires_grad=True)

    def before_backward() -> object:
        return 0.1 * w.grad  # type: ignore[operator]  # as printed: .grad is None

    def in_place() -> None:
        nonlocal w
        loss: Any = w.square().sum()
        loss.backward()
        w -= 0.1 * w.grad  # type: ignore[operator]  # as printed: a leaf, in place, with the graph watching

    figures["w -= lr * w.grad before the first backward()"] = _error_name(before_backward)
    figures["w -= lr * w.grad without no_grad()"] = _error_name(in_place)
    return Measurement(
        {
            f"it is written as w.sub_(w.grad, alpha=lr) under no_grad() ({LITERAL})": all(identical),
            "it runs outside no_grad() or before the first backward() (it raises)": "runs" in figures.values(),
        },
        figures,
        {LITERAL: all(accurate)},  # which bits differ depends on the CPU; without fused multiply-add perhaps none
    )


def _adam_on_one_sample(*, squared: bool, steps: int = 300) -> list[float]:
    """Train W (4×3) and b (3) on one sample with Adam and return the losses."""
    import torch

    torch.manual_seed(0)
    w, b = torch.randn(4, 3, requires_grad=True), torch.randn(3, requires_grad=True)
    x, y = torch.randn(4), torch.randn(3)
    optimizer, losses = torch.optim.Adam([w, b], lr=0.01), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss: Any = (x @ w + b - y).square()
        loss = loss.sum() if squared else loss
        loss.backward()  # of the 3-vector: "grad can be implicitly created only for scalar outputs"
        optimizer.step()
        losses.append(float(loss.detach().sum()))
    return losses


def _adam_example() -> Measurement:
    printed = _error_name(lambda: _adam_on_one_sample(squared=False, steps=1))
    losses = _adam_on_one_sample(squared=True)
    return Measurement(
        {
            "the loss is a scalar, the sum of the squares": losses[-1] < losses[0] / 1000,
            "backward() is called on the vector of 3 squares, as printed": printed == "runs",
        },
        {
            "backward() on the vector": printed,
            "sum of the squares: first loss": losses[0],
            "sum of the squares: loss after 300 steps": losses[-1],
        },
    )


CLAIMS = (
    Claim(
        "vanilla-equals-sgd",
        "w -= lr * w.grad equals torch.optim.SGD, bit for bit.",
        "holds when it is written as w.sub_(w.grad, alpha=lr) under no_grad() (with w -= lr * w.grad "
        "the last bits may differ); not when it runs outside no_grad() or before the first backward() (it raises)",
        _vanilla_equals_sgd,
    ),
    Claim(
        "printed-adam-example-runs",
        "The usual example trains: Adam on one sample, W of shape 4×3, b of shape 3.",
        "holds when the loss is a scalar, the sum of the squares; "
        "not when backward() is called on the vector of 3 squares, as printed",
        _adam_example,
    ),
)
