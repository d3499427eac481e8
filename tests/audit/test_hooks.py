"""Hooks record all ways to call torch."""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad, clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader, TensorDataset

from gradlab import audit
from gradlab.audit.hooks import clipping
from gradlab.audit.recording.recorder import Recorder
from tests.audit.training import loader_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@pytest.mark.parametrize("by_name", [False, True], ids=["by place", "by name"])
def test_a_step_that_a_scaler_skips_is_recorded(by_name: bool) -> None:
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
)  # old: as in torch before 2.6
def test_clipping_by_a_name_imported_before_is_recorded(name: str, old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if old:
        monkeypatch.setattr(clipping, "BY_NORM", ("clip_grad_norm_",))
    clipped = []
    monkeypatch.setattr(Recorder, "clipped", lambda _, clip: clipped.append(len(clip.parameters)))
    parameter = torch.ones(2, requires_grad=True)
    parameter.grad = torch.full((2,), 100.0)
    with audit.watch():
        CLIPPINGS[name]([parameter], 0.5)
    assert (clipped, float(parameter.grad[0]) < 1) == ([1], True)
    CLIPPINGS[name]([parameter], 0.5)
    assert clipped == [1]


def test_an_infinite_bound_is_no_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    clipped = []
    monkeypatch.setattr(Recorder, "clipped", lambda _, parameters: clipped.append(parameters))
    parameter = torch.ones(2, requires_grad=True)
    parameter.grad = torch.ones(2)
    with audit.watch():
        clip_grad_norm_([parameter], math.inf), nn.utils.clip_grad_norm_([parameter], max_norm=float("inf"))
    assert clipped == []


# Epochs of DataLoaders


def ahead(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield batches with one prefetched, as some frameworks do."""
    rest = iter(batches)
    last = next(rest)
    for each in rest:
        yield last
        last = each
    yield last


def _first(batches: Iterable[Any], number: int) -> Iterator[Any]:
    for nth, each in enumerate(batches, 1):
        yield each
        if nth == number:
            return


def traces_of(passes: Iterable[Iterable[Any]], every: int) -> list[str]:
    model = nn.Linear(3, 1)
    with audit.watch() as report:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for batches in passes:
            nth = 0
            for nth, (inputs,) in enumerate(batches, 1):
                model(inputs).mean().backward()
                if nth % every == 0:
                    optimizer.step()
                    optimizer.zero_grad()
            if nth % every:
                optimizer.step()
                optimizer.zero_grad()
    (seen,) = report.history.optimizers
    return [*chain.from_iterable([trace] * times for trace, times in seen.traces()), seen.pending]


def test_the_end_and_the_next_start_of_an_epoch_are_recorded() -> None:
    loader = loader_of(12)
    assert traces_of([loader, loader], 2) == ["BB", "zBe", "zbBB", "zBe", "z"]
    assert traces_of([ahead(loader), ahead(loader)], 2) == ["BB", "zeB", "zbBB", "zeB", "z"]


def test_the_start_after_an_epoch_left_early_is_recorded() -> None:
    loader = loader_of(40)
    assert traces_of([_first(loader, 4), _first(loader, 4)], 2) == [
        "BB", "zBB", "zbBB", "zBB", "z",
    ]  # fmt: skip


def test_a_new_loader_of_the_same_data_is_another_epoch_of_it() -> None:
    loader = loader_of(16)
    again = DataLoader(loader.dataset, batch_size=4)
    assert traces_of([loader, again], 2) == ["BB", "zBB", "zebBB", "zBB", "ze"]


def test_a_dataset_made_again_for_each_epoch_is_another_one() -> None:
    """A freed one may have the same id."""
    made: Any
    for made in (TensorDataset, lambda rows: [(row,) for row in rows]):
        passes = (_first(DataLoader(made(torch.randn(40, 3)), batch_size=4), 4) for _ in range(20))
        assert set(traces_of(passes, 2)) == {"BB", "zBB", "z"}


def test_a_loader_of_a_list_gives_several_epochs() -> None:
    loader: DataLoader[Any] = DataLoader([(row,) for row in torch.randn(40, 3)], batch_size=4)  # type: ignore[arg-type]
    assert traces_of([_first(loader, 4), _first(loader, 4)], 2) == [
        "BB", "zBB", "zbBB", "zBB", "z",
    ]  # fmt: skip


def test_an_evaluation_is_no_epoch() -> None:
    loader, other = loader_of(16), loader_of(8)
    model = nn.Linear(3, 1)
    with audit.watch() as report, torch.no_grad():
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        evaluations = 0
        for _ in range(3):
            for (inputs,) in loader:
                with torch.enable_grad():
                    model(inputs).mean().backward()
                optimizer.step()
                optimizer.zero_grad()
                evaluations += len([model(one) for (one,) in other]) == 2
    assert evaluations == 3 * 4
    assert {each.trace for each in report.history.optimizers[0].stretches} == {"B", "zB", "zebB"}
