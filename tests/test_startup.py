"""Torch is imported with the garbage collector off, and its objects are left out of later collections."""

from __future__ import annotations

import builtins
import gc
import sys
from typing import TYPE_CHECKING

import pytest

from gradlab import startup
from gradlab.startup import import_torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what happens when torch seems not to have been imported."""
    noted: list[str] = []
    importing = builtins.__import__

    def noting(name: str, *others: object) -> object:
        if name != "torch":
            return importing(name, *others)  # type: ignore[arg-type]  # what Python passes
        noted.append(f"torch imported, collecting {gc.isenabled()}")
        return None

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(builtins, "__import__", noting)
    monkeypatch.setattr(gc, "freeze", lambda: noted.append("frozen"))
    monkeypatch.setattr(startup, "OURS", True)
    return noted


@pytest.fixture
def _not_collecting() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def test_nothing_is_collected_while_torch_is_imported(seen: list[str]) -> None:
    import_torch()
    assert seen == ["torch imported, collecting False", "frozen"]
    assert gc.isenabled()


def test_nothing_is_frozen_in_a_callers_process(seen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "OURS", False)
    import_torch()
    assert seen == ["torch imported, collecting False"]


@pytest.mark.usefixtures("_not_collecting")
def test_a_collector_that_was_off_stays_off(seen: list[str]) -> None:
    import_torch()
    assert seen
    assert not gc.isenabled()


def test_where_torch_is_there_nothing_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "freeze", lambda: pytest.fail("what others made is frozen"))
    assert "torch" in sys.modules
    import_torch()
