"""The parameters that a loss reaches, and the marks on its graph."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import torch
from torch import nn

from gradlab.audit.recording.graphs import reached_from
from gradlab.audit.recording.kept_graphs import Mark


def test_what_a_loss_reaches_is_what_gets_gradient() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    apart = nn.Linear(3, 1)
    model[0].bias.requires_grad_(False)
    loss: Any = model(torch.ones(4, 2)).sum() + apart(torch.ones(3)).detach()
    reached = reached_from([loss], "test", Mark())
    loss.backward()
    every = [*model.parameters(), *apart.parameters()]
    assert reached.whole
    assert {key for key in reached.leaves if key in {id(p) for p in every}} == {
        id(p) for p in every if p.grad is not None
    }


def test_a_mark_is_gone_with_its_graph_and_keeps_nothing() -> None:
    w = torch.ones(3, requires_grad=True)
    loss: Any = (w * 2).square().sum()
    mark = Mark()
    reached_from([loss], "test", mark)
    alive = weakref.ref(mark)
    del mark
    gc.disable()
    try:
        loss.backward()
        total = loss + 0
        del loss
        assert alive() is not None  # because of the sum
        del total
        assert alive() is None
    finally:
        gc.enable()
