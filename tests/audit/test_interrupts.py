"""What interrupts the script while the audit listens is the script's, and the listening goes on."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import torch

from gradlab import audit
from gradlab.audit.recording import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
    """Let a method of the recorder do something first, the next time that it is called."""
    method = getattr(Recorder, name)

    def once(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(Recorder, name, method)
        do()
        return method(*args, **kwargs)

    monkeypatch.setattr(Recorder, name, once)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["_look_ahead", "backward_begins", "backward_ends", "step_begins", "cleared"])
def test_passes_are_heard_after_one_that_was_interrupted(
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


@pytest.mark.parametrize("name", ["_look_ahead", "_ended", "_leave_calm"])
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
