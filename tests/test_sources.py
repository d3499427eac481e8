"""The source of a function object covers what the function reads of the user's code."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gradlab import tasks
from tests.api import making
from tests.api.making import my_task

if TYPE_CHECKING:
    from pathlib import Path


def test_a_global_number_is_part_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    one = tasks.sources.hash_of_source(my_task)
    monkeypatch.setattr(making, "FACTOR", 2.0)
    assert tasks.sources.hash_of_source(my_task) != one
    monkeypatch.undo()
    assert tasks.sources.hash_of_source(my_task) == one


def cell(source: str, **values: Any) -> Any:
    """Return the function `f` that a notebook's cell defines."""
    names = {"__name__": "__main__", "torch": torch, **values}
    exec(compile(source, "<ipython-input-1>", "exec"), names)  # noqa: S102 - our own code
    return names["f"]


@pytest.mark.parametrize(
    "source",
    [
        "def f(seed): return {n}",
        "def g(): return {n}\ndef f(seed): return g()",
        "class A:\n  x = {n}\ndef f(seed): return A()",
        "class A:\n  def m(self): return {n}\ndef f(seed): return A()",
        "class A:\n  @property\n  def p(self): return {n}\ndef f(seed): return A().p",
        "class A:\n  @staticmethod\n  def p(): return {n}\ndef f(seed): return A().p",
        "class A:\n  x = 1\n  def f(self, seed): return {n}\nf = A().f",
        "X = {{'a': [{n}]}}\ndef f(seed): return X",
        "X = {{1, {n} + 1}}\ndef f(seed): return X",
        "X = torch.full((2,), {n}.0)\ndef f(seed): return X",
        "def f(seed, width={n}): return 1",
        "def g(x):\n  def f(seed): return x\n  return f\nf = g({n})",
        "from functools import partial\ndef g(seed, x): 1\nf = partial(g, x={n})",
        "from functools import wraps\ndef g(seed): return {n}\n@wraps(g)\ndef f(*a): return 1",
        "@torch.no_grad()\ndef f(model, batch): return {n}",
        "from functools import cache\n@cache\ndef f(seed): return {n}",
        "class A:\n  @torch.no_grad()\n  def step(self): return {n}\ndef f(seed): return A()",
        "class f(torch.optim.SGD):\n  @torch.no_grad()\n  def step(self): return {n}",
        "class A:\n  x = (0.9, {n})\n  def m(self): return 1\ndef f(seed): return A()",
        "from functools import cache\nclass A:\n  @cache\n  def m(self): return {n}\ndef f(seed): return A()",
    ],
)
def test_the_source_covers_what_a_cell_reads(source: str) -> None:
    hashes = [tasks.sources.hash_of_source(cell(source.format(n=n))) for n in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_source_covers_the_users_modules(folder: Path) -> None:
    (folder / "mine_too.py").write_text("x = 1")
    module = ModuleType("mine_too")
    module.__file__ = str(folder / "mine_too.py")
    function = cell("def f(seed): return (m.x, torch.nn, len, f)", m=module)
    one = tasks.sources.hash_of_source(function)
    (folder / "mine_too.py").write_text("x = 2")
    assert tasks.sources.hash_of_source(function) != one


def test_a_step_that_torch_has_wrapped_has_the_same_source() -> None:
    for line in ("", "  @torch.no_grad()\n"):
        kind = cell(f"class f(torch.optim.SGD):\n{line}  def step(self): return 1")
        one = tasks.sources.hash_of_source(kind)
        kind([torch.ones(1)])  # torch wraps `step` when it makes the first optimizer
        assert tasks.sources.hash_of_source(kind) == one
