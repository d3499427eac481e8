"""Hooks that cannot be installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from gradlab import audit
from gradlab.audit.hooks import active
from gradlab.audit.hooks.active import HOOKS, NEEDED

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.audit.hooks.patching import Patches
    from gradlab.audit.recording.recorder import Recorder

    Install = Callable[[Patches, list[Recorder]], None]


def half_installed(install: Install) -> Install:
    def fails(patches: Patches, recorders: list[Recorder]) -> None:
        install(patches, recorders)
        raise AttributeError("torch has moved it")

    fails.__module__ = install.__module__
    return fails


@pytest.mark.parametrize("install", HOOKS, ids=lambda each: each.__module__.rpartition(".")[2])
def test_a_hook_that_cannot_be_installed_is_reported(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = half_installed(install)
    monkeypatch.setattr(active, "HOOKS", [failing if each is install else each for each in HOOKS])
    monkeypatch.setattr(active, "NEEDED", [failing if each is install else each for each in NEEDED])
    backward = torch.autograd.backward
    with audit.watch(1) as report, audit.watch(1) as inner:
        layer = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        for _ in range(6):
            optimizer.zero_grad()
            layer(torch.ones(2)).sum().backward()
            optimizer.step()
    name = install.__module__.rpartition(".")[2]
    assert report.history.faults == inner.history.faults == [f"{name}: AttributeError: torch has moved it"]
    assert (report.findings, len(report.optimizers)) == ([], install not in NEEDED)
    assert torch.autograd.backward is backward
