"""What the audit hears of torch, however it is called, and whatever of torch is not where it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from gradlab import audit
from gradlab.audit import active
from gradlab.audit.sensors import NEEDED, SENSORS

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.audit.patching import Patches
    from gradlab.audit.recording import Recorder

    Install = Callable[[Patches, list[Recorder]], None]


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


def half_installed(install: Install) -> Install:
    def fails(patches: Patches, recorders: list[Recorder]) -> None:
        install(patches, recorders)
        raise AttributeError("torch has moved it")

    fails.__module__ = install.__module__
    return fails


@pytest.mark.parametrize("install", SENSORS, ids=lambda each: each.__module__.rpartition(".")[2])
def test_a_sensor_that_finds_torch_changed_is_told_of_and_the_script_trains_on(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = half_installed(install)
    monkeypatch.setattr(active, "SENSORS", [failing if each is install else each for each in SENSORS])
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
