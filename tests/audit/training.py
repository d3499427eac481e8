"""Small trainings for tests of the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradlab import audit

if TYPE_CHECKING:
    from collections.abc import Callable

NEVER_CLEARING = """
import sys, torch, os
print(__name__, __file__, sys.argv[1:], os.path.basename(sys.path[0]), flush=True)
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
for _ in range(9):
    w.sum().backward()
    optimizer.step()
"""
NEVER_CLEARING_LINES = [7, 8]  # the backward pass and the step


def train(after: Callable[[nn.Module, torch.optim.Optimizer], object], steps: int = 12, **options: Any) -> list[float]:
    """Train with the usual loop, call `after` after each step, and return the losses."""
    torch.manual_seed(0)
    x = torch.randn(32, 3)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.05, **options), []
    for _ in range(steps):
        loss: Any = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))
        loss.backward()
        optimizer.step()
        after(model, optimizer)
        losses.append(loss.item())
    return losses


def multiplied(share: float) -> Callable[[nn.Module, torch.optim.Optimizer], None]:
    """Return a function that multiplies all gradients in place."""

    def after(model: nn.Module, _: torch.optim.Optimizer) -> None:
        for p in model.parameters():
            assert p.grad is not None
            p.grad *= share

    return after


def loader_of(samples: int) -> DataLoader[Any]:
    """Return batches of four samples of three numbers."""
    return DataLoader(TensorDataset(torch.randn(samples, 3)), batch_size=4)


def watch_cell(source: str, sample: int | None = 1, select: tuple[str, ...] = ()) -> audit.Report:
    """Run a notebook cell under a watch, with these rules; `x` is a batch."""
    head = "import torch\nfrom torch import nn\ntorch.manual_seed(0)\nx = torch.randn(8, 2)\n"
    with audit.watch(sample, select=select) as report:
        exec(compile(head + source, "<ipython-input-1>", "exec"), {"__name__": "cell"})  # noqa: S102 - our own code
    assert report.history.faults == []
    return report
