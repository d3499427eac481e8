"""What tests of the audit share."""

from __future__ import annotations

import gc
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from gradlab import audit
from gradlab.audit.hooks import active

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.audit.recording.recorder import Recorder


@pytest.fixture(scope="package", autouse=True)
def _small_heap() -> None:
    """Hide torch's own objects from the audit, which collects garbage and searches the heap: 0.1 s each time."""
    import torch

    torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)  # the first optimizer imports the compiler
    gc.collect()
    gc.freeze()


@pytest.fixture
def warning_recorders(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Recorder]]:
    """Yield where `audit.warn()` keeps its recorder, and end its watch with the test: nothing public ends it."""
    recorders: list[Recorder] = []
    monkeypatch.setattr(audit, "_warning", recorders)
    yield recorders
    for recorder in recorders:
        active.stop(recorder)


@pytest.fixture
def _main_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore what a script that is audited in this process takes over as `__main__`."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
