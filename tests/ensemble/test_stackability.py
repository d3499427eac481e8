"""What cannot be stacked is found before it is trained, with the reason."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from gradlab import modes, optimizers, tasks
from gradlab.engines import ensemble
from gradlab.engines.ensemble import CannotStackError
from gradlab.tasks import Task
from tests.ensemble.test_loop import sgd, together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# What cannot be stacked is found by rehearsing


def data(rows: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(rows, 3, generator=generator), torch.randn(rows, 1, generator=generator)


def net(*inner: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), *inner, nn.Linear(4, 1))


def plain(inner: nn.Module | None = None, loss: Any = None, batches: Any = None) -> Task:
    task = Task.supervised(net(inner or nn.Tanh()), batches or [data(6), data(9)], nn.MSELoss())
    return replace(task, loss=loss) if loss else task


def mse(model: nn.Module, batch: Any) -> torch.Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


class Reused:
    """Batches that all stand in one tensor."""

    def __iter__(self) -> Iterator[Any]:
        x, y = data()
        for _ in range(3):
            x += 1
            yield x, y


class Scaled(nn.Module):
    """A model with a number of its own that is neither a parameter nor a buffer."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.inner, self.scale = net(nn.Tanh()), scale

    def forward(self, x: torch.Tensor) -> Any:
        return self.scale * self.inner(x)


def branching(model: nn.Module, batch: Any) -> torch.Tensor:
    loss = mse(model, batch)
    return loss if loss > 0.5 else 2 * loss


def numbered(state: list[int], model: nn.Module, batch: Any) -> torch.Tensor:
    state.append(1)
    return mse(model, batch) * len(state)


def random_from_python(model: nn.Module, batch: Any) -> torch.Tensor:
    import random

    return mse(model, batch) * (1 + random.random())  # noqa: S311 - no secret


def sparse() -> Task:
    model = nn.Embedding(5, 1, sparse=True)
    return Task(model, [torch.tensor([1, 2])], lambda model, x: (model(x) ** 2).mean())


def hooked() -> Task:
    task = plain()
    next(task.model.parameters()).register_hook(lambda gradient: gradient * 2)  # type: ignore[no-untyped-call]  # torch's
    return task


CASES: dict[str, tuple[Callable[[], list[Task]], str]] = {
    "nothing stands against it": (lambda: [plain(), plain()], ""),
    "one batch": (lambda: [plain(batches=[data()])], ""),
    "a frozen layer": (lambda: [frozen(), frozen()], ""),
    "dropout": (lambda: [plain(nn.Dropout(0.5))], "its loss draws random numbers"),
    "Python's numbers": (lambda: [plain(loss=random_from_python)], "its loss draws random numbers"),
    "BatchNorm": (lambda: [plain(nn.BatchNorm1d(4))], "its model writes to its buffers"),
    "echo": (lambda: [tasks.build(tasks.find("echo"), 1, {})], "its loss keeps a state between batches"),
    "a counter": (lambda: [plain(loss=partial(numbered, []))], "its loss keeps a state between batches"),
    "a branch on data": (lambda: [plain(loss=branching)], "torch.func.vmap cannot compute its loss"),
    "a sparse gradient": (lambda: [sparse()], "its gradients are sparse"),
    "a hook": (lambda: [hooked()], "its loss or gradient differs"),
    "a number of its own seed": (
        lambda: [replace(plain(), model=Scaled(scale)) for scale in (1.0, 2.0)],
        "its loss or gradient differs",
    ),
    "another model for each seed": (
        lambda: [plain(), plain(nn.Sequential(nn.Linear(4, 4), nn.Tanh()))],
        "its loss or gradient differs",
    ),
    "one tensor for all batches": (lambda: [plain(batches=Reused())], "its next batch overwrites"),
    "a loss that raises": (lambda: [plain(loss=lambda *_: 1 / 0)], "its loss raises ZeroDivisionError"),
    "no batch": (lambda: [plain(batches=iter([]))], "it has no batch"),
}


def frozen() -> Task:
    task = plain()
    next(task.model.parameters()).requires_grad_(False)
    return task


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_stacked_is_found_with_the_reason(name: str) -> None:
    torch.manual_seed(0)
    make, reason = CASES[name]
    found = ensemble.stackability_of(make()).reason
    assert (found == "") if reason == "" else (reason in found)


def test_counted_accumulation_and_own_modes_are_not_stacked() -> None:
    pairs = plain(loss=lambda model, batch: (mse(model, batch) * 3, 3))
    found = ensemble.stackability_of([pairs])
    assert "counts items" in found.reason_under(modes.accumulate(4))
    for mode in (modes.zero_grad(), modes.accumulate(4, mean=False), modes.accumulate(4, by_batch=True)):
        assert found.reason_under(mode) == ""
    own = modes.zero_grad()._replace(rewrite_grad=lambda *_: None)
    assert "your own function" in ensemble.unstackable_reason(own, sgd)


def test_only_elementwise_optimizers_are_stacked() -> None:
    refused = {
        name
        for name in optimizers.names()
        if ensemble.unstackable_reason(modes.zero_grad(), partial(optimizers.build, name, options={"lr": 0.01}))
    }
    assert refused == {"Adafactor", "Muon", "SparseAdam"} & set(optimizers.names())


def test_a_loss_that_counts_in_some_steps_only_cannot_be_stacked() -> None:
    def loss(model: nn.Module, batch: Any) -> Any:
        return (mse(model, batch), 1) if len(batch[0]) == 9 else mse(model, batch)

    with pytest.raises(CannotStackError, match="a pair"):
        together(lambda _seed: plain(loss=loss), [(modes.zero_grad(), 1)], sgd, steps=4)
