"""The recording of many optimizers, steps inside passes, and interrupts."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from gradlab import audit
from gradlab.audit.recording.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# Many optimizers


def take_step(optimizer: torch.optim.Optimizer) -> None:
    (parameter,) = optimizer.param_groups[0]["params"]
    optimizer.zero_grad()
    loss: Any = parameter.sum()
    loss.backward()
    optimizer.step()


def new() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)


def test_optimizers_that_are_not_watched_are_reported() -> None:
    early = new()
    with audit.watch() as report:
        for _ in range(66):
            late = new()
            for _ in range(2):
                take_step(late)
        for _ in range(2):
            take_step(early)
    assert (len(report.optimizers), report.history.unwatched) == (64, 3)
    assert report.lines(200)[-1] == "  watched the first 64 optimizers; 3 more were not watched"


def test_optimizers_that_are_gone_without_a_step_make_room() -> None:
    with audit.watch() as report:
        kept = [new() for _ in range(10)]
        for _ in range(200):
            new()
        for each in [*kept, new(), new()]:
            take_step(each)
    assert (len(report.optimizers), report.history.unwatched) == (12, 0)


# Unusual updates


@pytest.mark.parametrize("sample", [None, 1], ids=["by default", "each update"])
def test_a_pass_with_a_step_within_counts_for_the_next_update(sample: int | None) -> None:
    layer = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    weight: Any = layer.weight  # its method is not typed
    weight.register_post_accumulate_grad_hook(lambda _: optimizer.step())
    with audit.watch(sample) as report:
        for _ in range(30):
            optimizer.zero_grad()
            layer(torch.ones(1, 2)).sum().backward()
    (history,) = report.history.optimizers
    assert [(each.trace, each.times) for each in history.stretches] == [("z", 1), ("Bz", 29)]
    assert history.pending == "B"


@pytest.mark.parametrize("sample", [None, 1], ids=["by default", "each update"])
def test_a_pass_of_another_network_is_not_recorded(
    sample: int | None,
) -> None:
    layer, other = nn.Linear(2, 1), nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with audit.watch(sample) as report:
        for _ in range(30):
            optimizer.zero_grad()
            for p in layer.parameters():
                p.grad = torch.ones_like(p)
            other(torch.ones(1, 2)).sum().backward()
            optimizer.step()
    (history,) = report.history.optimizers
    assert [(each.trace, each.times) for each in history.stretches] == [("z", 30)]


def test_a_step_that_raises_or_calls_its_parents_is_one_step() -> None:
    class Fails(torch.optim.SGD):
        calls = 0

        def step(self, closure: Any = None) -> Any:
            self.calls += 1
            if self.calls == 2:
                raise ZeroDivisionError
            super().step(closure)
            return super().step(closure)

    w = torch.ones(1, requires_grad=True)
    torch.optim.SGD([w], lr=0.1)  # torch hooks the step of a class at its first instance
    with audit.watch(1) as report:
        optimizer = Fails([w], lr=0.1)
        for _ in range(4):
            optimizer.zero_grad()
            w.sum().backward()  # type: ignore[no-untyped-call]  # torch does not say
            with suppress(ZeroDivisionError):
                optimizer.step()
    assert [each.trace for each in report.history.optimizers[0].stretches] == ["zB", "zBzB", "zB"]


def test_losses_of_several_passes_are_read_at_every_update() -> None:
    model = nn.Linear(3, 1)
    with audit.watch(1000) as report:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for nth in range(1, 41):
            (model(torch.ones(2, 3)).mean() / 4).backward()
            if nth % 4 == 0 or nth % 10 == 0:
                optimizer.step()
                optimizer.zero_grad()
    (seen,) = report.history.optimizers
    assert sum(times for times, _ in seen.losses.values()) == seen.updates > len(seen.measured)


# Interrupts


@pytest.fixture
def update() -> Callable[[], None]:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def update() -> None:
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()

    return update


@pytest.fixture
def _limit() -> Iterator[None]:
    def too_long(*_: object) -> None:
        raise TimeoutError("the script's own limit")

    before = signal.signal(signal.SIGALRM, too_long)
    yield
    signal.signal(signal.SIGALRM, before)


def raises_once(monkeypatch: pytest.MonkeyPatch, name: str, do: Callable[[], object]) -> None:
    """Make a method of the recorder call `do` first, the next time only.

    An interrupt may come anywhere in the code of a pass or a step, so private methods are patched too.
    """
    method = getattr(Recorder, name)

    def once(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(Recorder, name, method)
        do()
        return method(*args, **kwargs)

    monkeypatch.setattr(Recorder, name, once)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["_look_at_loss", "backward_started", "backward_ended", "step_started", "cleared"])
def test_passes_are_recorded_after_an_interrupted_one(
    name: str, update: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with audit.watch(1) as report:
        for _ in range(5):
            update()
        raises_once(monkeypatch, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            update()
        before = report.history.backwards
        for _ in range(5):
            update()
    assert report.history.backwards == before + 5
    assert report.history.optimizers[0].stretches[-1].trace == "zB"
    assert report.history.faults == []


@pytest.mark.parametrize("name", ["_look_at_loss", "_watched", "_close_fast_path"])
@pytest.mark.usefixtures("_limit")
def test_what_the_scripts_handler_of_a_signal_raises_is_raised(
    name: str, update: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with audit.watch(1) as report:
        update()
        raises_once(monkeypatch, name, lambda: signal.raise_signal(signal.SIGALRM))
        with pytest.raises(TimeoutError, match="the script's own limit"):
            update()
        for _ in range(5):
            update()
    assert report.history.faults == []
    assert report.history.optimizers[0].stretches[-1].trace == "zB"
