"""What the audit hears of torch, however it is called, and whatever of torch is not where it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gradlab import audit


@pytest.mark.parametrize("by_name", [False, True], ids=["by place", "by name"])
def test_a_step_that_a_scaler_skips_is_heard_however_it_is_given_the_optimizer(by_name: bool) -> None:
    layer, scaler = nn.Linear(2, 1), torch.amp.GradScaler("cpu")
    with audit.watch() as report:
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        for scale in (1.0, float("inf"), 1.0):
            loss: Any = layer(torch.ones(2)).sum() * scale
            scaler.scale(loss).backward()
            scaler.step(optimizer=optimizer) if by_name else scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    (history,) = report.history.optimizers
    assert ([each.trace for each in history.stretches], history.pending) == (["Bu", "zBukzBu"], "z")
