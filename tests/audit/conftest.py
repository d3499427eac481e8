"""Fixtures for tests of the audit."""

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
    """Hide torch's own objects from the audit's garbage collections and heap searches, which take 0.1 s."""
    import torch

    torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)  # the first optimizer imports the compiler
    gc.collect()
    gc.freeze()


@pytest.fixture
def warning_recorders(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Recorder]]:
    """Yield the list with the recorder of `audit.warn()`, and stop it after the test: nothing public does."""
    recorders: list[Recorder] = []
    monkeypatch.setattr(audit, "_warning", recorders)
    yield recorders
    for recorder in recorders:
        active.stop(recorder)


@pytest.fixture
def _main_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore everything that a script audited in this process takes over as `__main__`."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
