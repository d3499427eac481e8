"""What a program may rest on: the document of `audit --json`, key by key, and the exit status."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from gradlab.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCRIPT = """
import sys, torch
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
for _ in range(9):
    w.square().sum().backward()
    optimizer.step()
    {after}
{end}
"""
ERROR, NOTE, NOTHING = "pass", "w.grad *= 0.5", "optimizer.zero_grad()"


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what a script takes over as `__main__`."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def audited(folder: Path, *options: str, after: str, end: str = "") -> tuple[int, dict[str, Any]]:
    """Run a script that does this after each step and ends so; return the exit status and the document."""
    (folder / "s.py").write_text(SCRIPT.format(after=after, end=end))
    done = CliRunner().invoke(app, ["audit", "--json", *options, "s.py"])
    document: dict[str, Any] = json.loads(done.stdout)
    return done.exit_code, document


def shape(value: Any) -> Any:
    """Return what stands where in a document: keys in their order, and the kinds of values."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(each) for each in value] if isinstance(value, list) else type(value)


OPTIMIZER = {
    "class": str,
    "parameters": int,
    "updates": int,
    "backwards_per_update": int,
    "keep": {"median": float, "min": float, "max": float},
    "mode": str,
}
FINDING = {
    "id": str,
    "severity": str,
    "since_update": int,
    "places": [{"file": str, "line": int}, {"file": str, "line": int}],
    "message": str,
    "instead": str,
}


def test_the_document_has_these_keys_and_no_others_on_each_level(folder: Path) -> None:
    _, document = audited(folder, after=ERROR)
    assert shape(document) == {"script": str, "exit_status": int, "optimizers": [OPTIMIZER], "findings": [FINDING]}


def test_the_document_says_what_happened(folder: Path) -> None:
    _, document = audited(folder, after=ERROR)
    (optimizer,), (finding,) = document["optimizers"], document["findings"]
    keep = {"median": 1.0, "min": 1.0, "max": 1.0}
    told = {"class": "SGD", "parameters": 1, "updates": 9, "backwards_per_update": 1, "keep": keep}
    assert optimizer == {**told, "mode": "no_zero_grad"}
    assert (finding["id"], finding["severity"], finding["since_update"]) == ("never-cleared", "error", 2)
    source = (folder / "s.py").read_text().splitlines()
    lines = [nth for nth, line in enumerate(source, 1) if "backward()" in line or ".step()" in line]
    assert finding["places"] == [{"file": str(folder / "s.py"), "line": line} for line in lines]


def test_what_could_not_be_measured_is_null(folder: Path) -> None:
    _, document = audited(folder, after="w.grad = None; break")
    (optimizer,) = document["optimizers"]
    assert (optimizer["keep"], optimizer["mode"]) == (None, None)
    (folder / "s.py").write_text("import torch\nw = torch.ones(1, requires_grad=True)\ntorch.optim.SGD([w]).step()\n")
    (optimizer,) = json.loads(CliRunner().invoke(app, ["audit", "--json", "s.py"]).stdout)["optimizers"]
    assert optimizer["backwards_per_update"] is None


def test_the_documentation_shows_each_key_of_the_document(folder: Path) -> None:
    _, document = audited(folder, after=ERROR)
    shown = documented()
    assert list(shown) == list(document)
    for part in ("optimizers", "findings"):
        assert list(shown[part][0]) == list(document[part][0])
    assert list(shown["optimizers"][0]["keep"]) == list(document["optimizers"][0]["keep"])
    assert list(shown["findings"][0]["places"][0]) == list(document["findings"][0]["places"][0])


@pytest.mark.parametrize(
    ("after", "end", "own", "strict", "forgiving"),
    [
        (NOTHING, "", 0, 0, 0),
        (ERROR, "", 0, 1, 0),
        (NOTE, "", 0, 0, 0),
        (NOTHING, "sys.exit(7)", 7, 7, 7),
        (ERROR, "sys.exit(7)", 7, 7, 7),
        (ERROR, "sys.exit(0)", 0, 1, 0),
        (ERROR, "1 / 0", 1, 1, 1),
    ],
    ids=["nothing", "an error", "a note alone", "its own", "its own and an error", "exit 0 and an error", "raises"],
)
def test_the_exit_status_is_the_scripts_own_else_1_where_something_is_found_unless_forgiven(
    folder: Path, after: str, end: str, own: int, strict: int, forgiving: int
) -> None:
    for options, status in (((), strict), (("--exit-zero",), forgiving)):
        got, document = audited(folder, *options, after=after, end=end)
        severities = [each["severity"] for each in document["findings"]]
        assert severities == {ERROR: ["error"], NOTE: ["note"], NOTHING: []}[after]
        assert (got, document["exit_status"]) == (status, own)


def documented() -> dict[str, Any]:
    """Return the document that docs/audit.md shows."""
    from tests.audit.test_table import DOCUMENT

    block = DOCUMENT.read_text(encoding="utf-8").partition("```json\n")[2].partition("```")[0]
    shown: dict[str, Any] = json.loads(block)
    return shown
