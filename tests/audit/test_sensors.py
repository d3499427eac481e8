"""What the audit hears of torch, however it is called, and whatever of torch is not where it was."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad, clip_grad_norm_, clip_grad_value_

from gradlab import audit
from gradlab.audit import active
from gradlab.audit.recording import Recorder
from gradlab.audit.sensors import NEEDED, SENSORS, clipping

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.audit.patching import Patches

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


def _clip_norm_by_parts(parameters: list[torch.Tensor], most: float) -> None:
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    nn.utils.clip_grads_with_norm_(parameters, most, norm)


CLIPPINGS: dict[str, Callable[[list[torch.Tensor], float], object]] = {
    "norm by name": clip_grad_norm_,
    "norm": lambda parameters, most: nn.utils.clip_grad_norm_(parameters, max_norm=most),
    "norm of a generator": lambda parameters, most: clip_grad.clip_grad_norm_(iter(parameters), most),
    "value by name": clip_grad_value_,
    "value": lambda parameters, most: nn.utils.clip_grad_value_(iter(parameters), clip_value=most),
    "by parts": _clip_norm_by_parts,
}


@pytest.mark.parametrize(
    ("name", "old"),
    [*((name, False) for name in CLIPPINGS), *((name, True) for name in CLIPPINGS if name != "by parts")],
)  # old: as torch was before 2.6
def test_a_clipping_is_heard_once_under_a_name_that_was_imported_before(
    name: str, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if old:
        monkeypatch.setattr(clipping, "BY_NORM", ("clip_grad_norm_",))
    heard = []
    monkeypatch.setattr(Recorder, "clipped", lambda _, parameters: heard.append(len(parameters)))
    parameter = torch.ones(2, requires_grad=True)
    parameter.grad = torch.full((2,), 100.0)
    with audit.watch():
        CLIPPINGS[name]([parameter], 0.5)
    assert (heard, float(parameter.grad[0]) < 1) == ([1], True)
    CLIPPINGS[name]([parameter], 0.5)
    assert heard == [1]


def test_a_norm_that_is_asked_for_by_a_bound_without_end_is_no_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []
    monkeypatch.setattr(Recorder, "clipped", lambda _, parameters: heard.append(parameters))
    parameter = torch.ones(2, requires_grad=True)
    parameter.grad = torch.ones(2)
    with audit.watch():
        clip_grad_norm_([parameter], math.inf), nn.utils.clip_grad_norm_([parameter], max_norm=float("inf"))
    assert heard == []
