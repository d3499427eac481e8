"""What tests of gradlab from Python share: nothing goes to stdout, and a notebook's kernel in memory."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _quiet_stdout(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Nothing here prints to stdout."""
    yield
    assert capsys.readouterr().out == ""


class Shell:
    """Takes the place of IPython in a kernel and records what is displayed."""

    def __init__(self) -> None:
        self.kernel = self
        self.shown: list[dict[str, str]] = []
        self.displays = 0

    def get_ipython(self) -> Shell:
        return self

    def display(self, content: dict[str, str], *, raw: bool, display_id: bool) -> Shell:
        assert (raw, display_id) == (True, True)
        self.displays += 1
        self.shown.append(content)
        return self

    def update(self, content: dict[str, str], *, raw: bool) -> None:
        self.shown.append(content)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    found = Shell()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=found.get_ipython, version_info=(9, 18)))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=found.display))
    return found
