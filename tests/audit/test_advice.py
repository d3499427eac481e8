"""Advice, applied to the script that asked for it, leaves nothing to find; every advice is applied in some script."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gradlab.audit import findings
from gradlab.audit.findings import RULES
from tests.audit.test_scripts import FAULTY, NEED, RIGHT, SCRIPTS, as_param, described, finding_of, run

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = sorted(Path(findings.__file__).parent.glob("*.py"))
ANY = "\0"  # stands for a value that only a run shows, such as the length of a window


def corrected(name: str) -> str:
    """Return the source of a faulty script with its advice applied, as its comments say.

    Lines that end in `# -` or `# - here` go, and the code after `# + ` comes.
    """
    lines = SCRIPTS[name].read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.endswith(("# -", "# - here"))]
    return "\n".join(re.sub(r"^( *)# \+ ", r"\1", line) for line in kept)


def check_advice(name: str, sample: int | None) -> None:
    if name in NEED and find_spec(NEED[name]) is None:
        pytest.skip(f"needs {NEED[name]}")
    report = run(name, sample=sample, source=corrected(name)).report
    assert report is not None
    assert report.history.faults == []
    assert [(each.id, each.message) for each in report.findings] == []
    modes = {each.mode and each.mode.split(":")[0] for each in report.optimizers}
    assert modes <= {"zero_grad", "accumulate"}
    assert modes  # the corrected script still trains


@pytest.mark.parametrize("name", [as_param(name) for name in FAULTY])
def test_advice_leaves_nothing_to_find(name: str) -> None:
    check_advice(name, sample=None)


@pytest.mark.slow  # the same at every update
@pytest.mark.parametrize("name", [as_param(name) for name in FAULTY])
def test_advice_leaves_nothing_to_find_at_sample_1(name: str) -> None:
    check_advice(name, sample=1)


# Advice in the source


class Module:
    """The source of a module of rules, in which the sixth argument of `Finding` is the advice."""

    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)
        self.functions = {each.name: each for each in self.tree.body if isinstance(each, ast.FunctionDef)}

    def advice(self) -> Iterator[str]:
        """Yield every text that a finding may advise, with `ANY` for values that only a run shows."""
        for function in self.functions.values():
            for call in calls_of("Finding", function):
                yield from self.texts(call.args[5], function)

    def texts(self, expression: ast.expr, function: ast.FunctionDef) -> list[str]:
        """Return all texts that an expression in a function may have."""
        match expression:
            case ast.Constant(value=str(text)):
                return [text]
            case ast.IfExp(body=one, orelse=other):
                return self.texts(one, function) + self.texts(other, function)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self.joined([left, right], function)
            case ast.JoinedStr(values=parts):
                return self.joined(parts, function)
            case ast.Name(id=name):
                return self.named(name, function)
            case ast.Call(func=ast.Name(id=name)) if name in self.functions:
                called = self.functions[name]
                returned = [each.value for each in ast.walk(called) if isinstance(each, ast.Return) and each.value]
                return [text for each in returned for text in self.texts(each, called)]
            case ast.FormattedValue(value=value):
                return self.texts(value, function) if isinstance(value, ast.Call) else self.shown(value, function)
        pytest.fail(f"no advice can be read from: {ast.unparse(expression)}")

    def joined(self, parts: list[ast.expr], function: ast.FunctionDef) -> list[str]:
        return ["".join(each) for each in product(*(self.texts(part, function) for part in parts))]

    def shown(self, value: ast.expr, function: ast.FunctionDef) -> list[str]:
        """Return the texts of a value in an f-string: those of a constant of the module, else `ANY`."""
        known = isinstance(value, ast.Name) and value.id.isupper()
        return self.texts(value, function) if known else [ANY]

    def named(self, name: str, function: ast.FunctionDef) -> list[str]:
        """Return the texts of a name: what is assigned to it, or passed to the function."""
        scope = [*ast.walk(function), *self.tree.body]
        assigned = [each for each in scope if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == name]
        parameters = [each.arg for each in function.args.args]
        if name not in parameters:
            return [text for each in assigned for text in self.texts(each.value, function)]
        nth = parameters.index(name)
        callers = [(call, caller) for caller in self.functions.values() for call in calls_of(function.name, caller)]
        return [text for call, caller in callers for text in self.texts(call.args[nth], caller)]


def calls_of(name: str, function: ast.FunctionDef) -> list[ast.Call]:
    calls = [each for each in ast.walk(function) if isinstance(each, ast.Call)]
    return [each for each in calls if isinstance(each.func, ast.Name) and each.func.id == name]


RULE = """
OFTEN = "often"

def rule(history):
    yield Finding(1, 2, 3, 4, 5, "a" if x else f"{x} b" + (", c" if x else ""))
    yield Finding(1, 2, 3, 4, 5, f"{when(x)} {OFTEN}")
    yield other(x, "f")

def other(x, instead):
    g = "g"
    return [Finding(1, 2, 3, 4, 5, instead), Finding(1, 2, 3, 4, 5, g)]

def when(x):
    return "d" if x else "e"
"""


def test_every_text_of_an_advice_is_read() -> None:
    assert list(Module(RULE).advice()) == ["a", f"{ANY} b, c", f"{ANY} b", "d often", "e often", "f", "g"]


def test_every_advice_is_applied_in_a_script() -> None:
    known = {text for file in MODULES for text in Module(file.read_text(encoding="utf-8")).advice()}
    assert len(known) >= len(RULES)
    applied = [described(name)[1] for name in FAULTY]
    patterns = {text: re.escape(text).replace(re.escape(ANY), ".+") for text in known}
    assert [text for text, each in patterns.items() if not any(re.fullmatch(each, one) for one in applied)] == []


# Enough scripts for every rule


def shape(name: str) -> frozenset[str]:
    """Return which of the parts that give a training script its shape it has: classes, functions, modules, loaders."""
    tree = ast.parse(SCRIPTS[name].read_text(encoding="utf-8"))
    parts = {"function" for each in tree.body if isinstance(each, ast.FunctionDef)}
    for each in tree.body:
        if isinstance(each, ast.ClassDef):
            parts.add("module" if "nn.Module" in map(ast.unparse, each.bases) else "class")
    return frozenset(parts | {"loader" for each in ast.walk(tree) if getattr(each, "id", "") == "DataLoader"})


@pytest.mark.parametrize("rule", RULES)
def test_two_faulty_scripts_of_different_shape(rule: str) -> None:
    assert len({shape(name) for name in FAULTY if finding_of(name) == rule}) >= 2


@pytest.mark.parametrize("rule", RULES)
def test_two_correct_scripts_close_to_the_fault(rule: str) -> None:
    assert len([name for name in RIGHT if name.split(".")[0] == f"right_{rule}"]) >= 2
