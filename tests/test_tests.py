"""Tests: none asserts only in loops that may run zero times, and names are short."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
ITEMS = {ast.Tuple: "elts", ast.List: "elts", ast.Set: "elts", ast.Dict: "keys", ast.Constant: "value"}
WRAPPERS = ("range", "enumerate", "zip", "product", "sorted", "reversed", "items", "values")


def name_of(call: ast.AST) -> str:
    """Return the name of what is called: "fail" of `pytest.fail()`, "" of what is no call."""
    function = getattr(call, "func", None)
    return getattr(function, "attr", "") or getattr(function, "id", "")


def may_be_empty(node: ast.expr) -> bool:
    """Say whether a loop over this may run zero times: not if it is a literal with items, or `zip` of such."""
    if isinstance(node, ast.Call) and name_of(node) in WRAPPERS:
        return any(map(may_be_empty, node.args or [getattr(node.func, "value", node.func)]))
    return not getattr(node, ITEMS.get(type(node), ""), None)


def claims(node: ast.AST, helpers: dict[str, ast.AST], sure: bool = True) -> Iterator[bool]:
    """Yield for each assertion in the node, and in the helpers that it calls, whether no empty loop can skip it."""
    loops = [node] if isinstance(node, ast.For) else getattr(node, "generators", [])
    inside = sure and not isinstance(node, ast.While) and not any(may_be_empty(loop.iter) for loop in loops)
    if isinstance(node, ast.Assert):
        over = [loop.iter for each in getattr(node.test, "args", []) for loop in getattr(each, "generators", [])]
        yield sure and not (name_of(node.test) == "all" and any(map(may_be_empty, over)))
    elif name_of(node) in ("raises", "warns", "fail"):
        yield sure
    elif name_of(node) in helpers:
        yield from claims(helpers[name_of(node)], {**helpers, name_of(node): ast.Pass()}, sure)
    for child in ast.iter_child_nodes(node):
        yield from claims(child, helpers, sure if child is getattr(node, "iter", None) else inside)


def functions_in(source: str) -> dict[str, ast.AST]:
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


SHARED = functions_in((HERE / "faults" / "table.py").read_text(encoding="utf-8"))  # which asserts what was injected


def only_in_loops(source: str) -> list[str]:
    functions = functions_in(source)
    helpers = {**SHARED, **functions}
    tests = {name: node for name, node in functions.items() if name.startswith("test_")}
    unsure = {name: node for name, node in tests.items() if not any(claims(node, helpers))}
    return [name for name, node in unsure.items() if list(claims(node, helpers))]  # others claim that nothing raises


@pytest.mark.parametrize("body", ["for x in y: assert x", "assert all(x for x in y)", "while y: assert y.pop()"])
def test_a_claim_that_an_empty_loop_skips_is_found(body: str) -> None:
    assert only_in_loops(f"def test_it():\n    {body}") == ["test_it"]
    assert only_in_loops(f"def test_it():\n    {body}\n    assert y") == []


def test_no_test_asserts_only_in_loops_that_may_be_empty() -> None:
    files = list(HERE.rglob("test_*.py"))
    assert Path(__file__) in files
    assert [name for file in files for name in only_in_loops(file.read_text(encoding="utf-8"))] == []


def test_test_names_have_at_most_60_characters() -> None:
    names = [name for file in HERE.rglob("test_*.py") for name in functions_in(file.read_text(encoding="utf-8"))]
    assert len(names) > 1000
    assert [name for name in names if name.startswith("test_") and len(name) > 60] == []
