"""Imports: they point one way, and nothing that only reads, lists, draws or fails waits for torch."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import gradlab
from gradlab import runs
from gradlab.experiment import Override, from_task

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(gradlab.__file__).parent

# The design's map, from the bottom up: a module imports only from the rows above its own.
LAYERS = [
    {"gradlab", "errors", "quick_start", "shipped", "theory", "wording"},
    {"user_code", "eager"},
    {"modes", "tasks", "optimizers", "rows", "toml_text"},
    {"experiment", "curves"},
    {"training", "quadratic", "store", "intervals"},
    {"results", "tape", "resuming"},
    {"ensemble", "sharpness"},
    {"runs", "plotting", "terminal", "progress", "verify", "audit"},
    {"sweep", "signals"},
    {"cli"},
    {"__main__"},
]
LEVEL = {module: level for level, modules in enumerate(LAYERS) for module in modules}
HEAVY = {"torch", "numpy", "matplotlib", "sklearn", "scipy", "tensorflow", "dask", "distributed"}


class Import(NamedTuple):
    importer: str  # the file, as it is written in the map: "modes", "tasks"
    imported: str  # of ours: as above; of others: the package
    ours: bool
    at_once: bool  # when the importer is imported, and not within a function


FILES = {".".join(file.relative_to(PACKAGE).with_suffix("").parts): file for file in sorted(PACKAGE.rglob("*.py"))}


def of_ours(name: str) -> str:
    """Return the word of the map for `gradlab.tasks.loading`: tasks."""
    parts = name.split(".")
    known = len(parts) > 1 and parts[1] != "__init__" and (parts[1] in FILES or f"{parts[1]}.__init__" in FILES)
    return parts[1] if known else "gradlab"


def imports_of(file: str) -> Iterator[Import]:
    """Yield what `file` imports when it runs; what is imported for type checking alone does not count."""
    importer = of_ours(f"gradlab.{file}")
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(FILES[file].read_text(encoding="utf-8")), True)]
    while waiting:
        node, at_once = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += [(each, at_once) for each in node.orelse]
            continue
        for name in names_in(node):
            ours = name.partition(".")[0] == "gradlab"
            yield Import(importer, of_ours(name) if ours else name.partition(".")[0], ours, at_once)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        waiting += [(each, at_once and not inside) for each in ast.iter_child_nodes(node)]


def names_in(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [each.name for each in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports would not be seen here"
        return [f"{node.module}.{each.name}" for each in node.names]
    return []


ALL = [each for file in FILES for each in imports_of(file)]


def test_every_module_has_its_place_in_the_map() -> None:
    assert {of_ours(f"gradlab.{file}") for file in FILES} == set(LEVEL)


def test_imports_point_one_way() -> None:
    upwards = {
        (each.importer, each.imported)
        for each in ALL
        if each.ours and each.importer != each.imported and LEVEL[each.imported] >= LEVEL[each.importer]
    }
    assert not upwards


def test_these_imports_were_seen_at_all() -> None:
    seen = {(each.importer, each.imported, each.at_once) for each in ALL}
    assert {("experiment", "modes", True), ("cli", "runs", False), ("runs", "torch", False)} <= seen


def test_training_knows_neither_the_store_nor_the_theory() -> None:
    assert {each.imported for each in ALL if each.importer == "training" and each.ours} <= {"errors", "rows"}


def test_no_module_imports_what_is_slow_before_it_is_needed() -> None:
    assert not [each for each in ALL if each.at_once and each.imported in HEAVY]


@pytest.mark.parametrize(
    "module",
    [
        "errors",
        "theory",
        "shipped",
        "user_code",
        "modes",
        "rows",
        "toml_text",
        "experiment",
        "store",
        "curves",
        "results",
        "terminal",
        "progress",
        "cli",
    ],
)
def test_these_modules_never_import_what_is_slow(module: str) -> None:
    assert not [each for each in ALL if each.importer == module and each.imported in HEAVY]


# As processes


def modules_of(*args: str, status: int = 0) -> set[str]:
    """Return the top-level modules that `python ARGS` imports, once it has ended with that status."""
    command = [sys.executable, "-X", "importtime", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr[-2000:]
    return {name.partition(".")[0] for name in re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE)}


def gradlab_(*args: str, status: int = 0) -> set[str]:
    found = modules_of("-m", "gradlab", *args, status=status)
    assert {"gradlab", "typer"} <= found, "what it imports was not seen"
    return found


@pytest.fixture
def done(folder: Path) -> Path:
    """Return the folder of an experiment that has been run, the way `run --task noisy_line --epochs 1` does it."""
    runs.run(from_task("noisy_line", [Override(("epochs",), 1, "--epochs")]))
    return folder / "runs" / "noisy_line"


def test_import_gradlab_costs_next_to_nothing() -> None:
    found = modules_of("-c", "import gradlab")
    assert "gradlab" in found
    assert not found & {*HEAVY, "typer", "rich", "pydantic"}


def test_a_name_of_the_package_is_imported_when_it_is_first_used() -> None:
    code = "import gradlab, sys; gradlab.Mode; assert 'torch' not in sys.modules; gradlab.Task; gradlab.train"
    assert "torch" not in modules_of("-c", code)


@pytest.mark.parametrize(
    "args",
    [["--help"], ["--version"], ["run", "--help"], ["plot", "--help"], ["verify", "--help"], ["audit", "--help"]],
    ids=" ".join,
)
def test_help_and_version_import_nothing_that_is_slow(args: list[str]) -> None:
    assert not gradlab_(*args) & HEAVY


@pytest.mark.parametrize(
    "args",
    [
        ["list"],
        ["modes"],
        ["modes", "--json"],
        ["tasks"],
        ["experiments"],
        ["experiments", "diverging_loss"],
    ],
    ids=" ".join,
)
def test_what_only_lists_does_not_import_torch(args: list[str]) -> None:
    assert not gradlab_(*args) & HEAVY


@pytest.mark.parametrize("command", ["list", "show", "export"])
def test_what_only_reads_runs_does_not_import_torch(command: str, done: Path) -> None:
    assert not gradlab_(command, *([] if command == "list" else [str(done)])) & HEAVY


def test_drawing_does_not_import_torch(done: Path) -> None:
    found = gradlab_("plot", str(done), "-o", "loss.png")
    assert Path("loss.png").stat().st_size > 0
    assert ("matplotlib" in found, "torch" in found) == (True, False)


def test_a_run_that_is_done_does_not_import_torch(done: Path) -> None:
    before = sorted(done.rglob("metrics.jsonl"))
    assert "torch" not in gradlab_("run", "--task", "noisy_line", "--epochs", "1")
    assert sorted(done.rglob("metrics.jsonl")) == before


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["run", "--nonsense"],
        ["run", "-m", "nonsense"],
        ["run", "-m", "decay:2"],
        ["run", "--optimizer", "nonsense"],
        ["run", "--optimizer", "lbfgs"],
        ["run", "--task", "nonsense"],
        ["run", "--task", "nosuch.py:f"],
        ["run", "--lr", "-1"],
        ["run", "--steps", "0"],
        ["run", "--set", "optimizer.nonsense=1"],
        ["run", "--set", "task_options.nonsense=1"],
        ["run", "nosuch.toml"],
        ["run", "nonsense"],
        ["run", "--out", "file"],
        ["show", "nosuch"],
        ["plot", "nosuch"],
        ["export", "nosuch"],
        ["sweep"],
        ["sweep", "--vary", "lr=1:0:3"],
        ["sweep", "--vary", "keep=no", "--seeds", "2"],
        ["sweep", "--vary", "lr=-1,1"],
        ["sweep", "--vary", "optimizer.nonsense=1,2"],
        ["verify", "--only", "nonsense"],
        ["sharpness", "nosuch.toml"],
        ["sharpness", "-m", "nonsense"],
        ["audit", "nosuch.py"],
    ],
    ids=" ".join,
)
def test_what_fails_does_not_wait_for_torch(args: list[str]) -> None:
    Path("file").write_text("no folder")
    assert "torch" not in gradlab_(*args, status=2)


def test_an_audit_leaves_it_to_the_script_to_import_torch() -> None:
    Path("script.py").write_text("import sys; assert 'torch' not in sys.modules")
    assert "torch" not in gradlab_("audit", "script.py")


def test_what_trains_does_import_torch() -> None:
    assert "torch" in gradlab_("run", "--task", "noisy_line", "--steps", "1", "-q")


# Of Python when it starts: every process notes itself, and that it looks for the compiler.
NOTES = """
import os, sys

def note(file, text):
    with open(os.path.join(os.path.dirname(__file__), file), "a") as notes:
        notes.write(f"{text}\\n")

class Noting:
    def find_spec(self, name, path=None, target=None):
        if name == "torch._dynamo":
            note("compiler", sys.orig_argv)

note("processes", sys.orig_argv)
sys.meta_path.insert(0, Noting())
"""
# A run of it is stopped in its fifth step, once.
STOPPED = """
import signal
from pathlib import Path
from gradlab import Task, tasks

def stopped(seed):
    made, calls = tasks.noisy_line(seed), []

    def loss(model, batch):
        calls.append(1)
        if len(calls) == 5 and not Path("asked").exists():
            Path("asked").touch()
            signal.raise_signal(signal.SIGTERM)
        return made.loss(model, batch)

    return Task(made.model, made.batches, loss)
"""
COMMANDS = """
import importlib.util, json, sys
from pathlib import Path
from gradlab.cli import main

def status(words):
    sys.argv = ["gradlab", *words]
    try:
        main()
    except SystemExit as end:
        return end.code

found = [(status(words), len(list(Path("runs").rglob("checkpoint-*.pt")))) for words in json.loads(sys.argv[1])]
looked_for = Path("notes/compiler").exists()
importlib.util.find_spec("torch._dynamo")
Path("found.json").write_text(json.dumps([found, looked_for, Path("notes/compiler").exists()]))
"""


@pytest.mark.slow
def test_nothing_that_trains_imports_the_compiler() -> None:
    Path("notes").mkdir()
    Path("notes/sitecustomize.py").write_text(NOTES)
    Path("mine.py").write_text(STOPPED)
    one_by_one = ["run", "--task", "mine.py:stopped", "-m", "zero_grad", "--optimizer", "adam", "-q"]
    line = ["--task", "noisy_line", "--steps", "5", "-q"]
    commands = [
        [*one_by_one, "--steps", "20", "--set", "schedule=cosine", "--set", "clip_norm=1"],
        [*one_by_one, "--steps", "20", "--set", "schedule=cosine", "--set", "clip_norm=1"],
        ["run", *line, "--engine", "ensemble"],
        ["sweep", *line, "--vary", "keep=0,0.5", "--vary", "every=1,2", "--seeds", "2", "--workers", "2"],
    ]
    path = os.pathsep.join([str(Path("notes").resolve()), str(PACKAGE.parent)])
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path("notes/processes").read_text().count("--multiprocessing-fork") == 2, "the sweep's workers"
    found, looked_for, noted = json.loads(Path("found.json").read_text())
    assert found == [[143, 1], [0, 0], [0, 0], [0, 0]], done.stderr[-2000:]
    assert (looked_for, noted) == (False, True), Path("notes/compiler").read_text()
