"""Imports: they point one way, and nothing that only reads, lists, draws or fails waits for torch."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import gradlab
from gradlab import runs
from gradlab.experiment import Override, from_task
from tests.comparison import fake_child

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(gradlab.__file__).parent

# The design's map, from the bottom up: a module imports only from the rows above its own, for types alone, too.
LAYERS = [
    {"gradlab", "errors", "rows", "shipped", "startup", "wording"},
    {"annotations", "user_code"},
    {"signatures"},
    {"optimizers"},
    {"modes", "schedules", "tasks"},
    {"experiment"},
    {"engines", "store"},
    {"analysis"},
    {"audit", "pages", "plotting", "runs", "verify"},
    {"comparison", "sweeps"},
    {"terminal"},
    {"api", "cli", "pytest_plugin"},
    {"__main__"},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
# Of `compare`: imported by a user's script that has imported torch, and nowhere else
WITHIN_SCRIPTS = {
    f"gradlab.comparison.{name}"
    for name in ("checking", "doubts", "gradients", "imposed", "imposing", "losses", "refusals", "tracked")
}
HEAVY = {"torch", "numpy", "matplotlib", "sklearn", "scipy", "tensorflow", "dask", "distributed"}
FILES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
}


class Import(NamedTuple):
    importer: str  # the module, as in gradlab.engines.loop
    imported: str  # of ours: likewise; of others: the package
    at_once: bool  # when the importer is imported, and not within a function or for types
    for_types: bool

    @property
    def ours(self) -> bool:
        return self.imported in FILES


def part_of(module: str) -> str:
    """Return the word of the map for `gradlab.tasks.loading`: tasks."""
    return module.split(".")[1] if "." in module else module


def module_of(name: str) -> str:
    """Return the module that `gradlab.modes.Mode` stands in, and of others the package."""
    while name not in FILES and "." in name:
        name = name.rpartition(".")[0]
    return name


def imports_of(importer: str) -> Iterator[Import]:
    """Yield all that a file imports."""
    waiting: list[tuple[ast.AST, bool, bool]] = [(ast.parse(FILES[importer].read_text(encoding="utf-8")), True, False)]
    while waiting:
        node, at_once, for_types = waiting.pop()
        yield from (Import(importer, module_of(name), at_once, for_types) for name in names_in(node))
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting += [(each, False, True) for each in node.body]
            waiting += [(each, at_once, for_types) for each in node.orelse]
            continue
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        waiting += [(each, at_once and not inside, for_types) for each in ast.iter_child_nodes(node)]


def names_in(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [each.name for each in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports would not be seen here"
        return [f"{node.module}.{each.name}" for each in node.names]
    return []


# The package itself names for types what it imports at first use.
ALL = [each for file in FILES for each in imports_of(file) if not (each.importer == "gradlab" and each.for_types)]


def test_every_module_has_its_place_in_the_map() -> None:
    assert {part_of(module) for module in FILES} == set(LEVEL)


def test_no_module_has_the_name_of_a_function_of_the_package() -> None:
    assert not [module for module in FILES if module.rpartition(".")[2] in ("run", "sweep", "compare")]


def test_a_class_name_occurs_once() -> None:
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in FILES.values()]
    names = [node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert len(names) > 100
    assert {name for name in names if names.count(name) > 1} == set()


def test_imports_between_packages_point_one_way() -> None:
    between = {
        (each.importer, each.imported)
        for each in ALL
        if each.ours and part_of(each.importer) != part_of(each.imported)
    }
    assert {each for each in between if LEVEL[part_of(each[1])] >= LEVEL[part_of(each[0])]} == set()


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: {each.imported for each in ALL if each.ours and each.importer == module} for module in FILES}
    TopologicalSorter({module: found - {module} for module, found in graph.items()}).prepare()  # raises CycleError


def test_these_imports_were_seen_at_all() -> None:
    seen = {each[:3] for each in ALL}
    assert {
        ("gradlab.experiment.model", "gradlab.modes", True),
        ("gradlab.runs.setup", "torch", False),
        ("gradlab.engines.loop", "gradlab.modes", False),  # for types
    } <= seen


def test_the_loop_knows_neither_the_store_nor_the_theory() -> None:
    loop = {f"gradlab.engines.{part}" for part in ("loop", "accumulation", "cursor", "geometry", "losses")}
    below = ("annotations", "errors", "modes", "optimizers", "rows", "schedules", "tasks")  # schedules: for types
    needed = {f"gradlab.{part}" for part in below}
    assert {each.imported for each in ALL if each.importer in loop and each.ours} <= needed | loop


def test_theory_imports_the_standard_library_alone() -> None:
    found = {each.imported.partition(".")[0] for each in ALL if each.importer == "gradlab.analysis.theory"}
    assert "math" in found
    assert found <= sys.stdlib_module_names


def test_the_audit_stands_on_modes_and_parts_without_imports() -> None:
    of_audit = [each for each in ALL if part_of(each.importer) == "audit" and each.ours]
    assert {part_of(each.imported) for each in of_audit} == {"audit", "errors", "modes", "shipped", "wording"}


def test_no_module_imports_what_is_slow_before_it_is_needed() -> None:
    slow = [each for each in ALL if each.at_once and each.imported in HEAVY]
    assert not [each for each in slow if each.importer not in WITHIN_SCRIPTS]
    outside = [each for each in ALL if each.at_once and each.imported in WITHIN_SCRIPTS]
    assert {each.importer for each in outside} <= WITHIN_SCRIPTS


@pytest.mark.parametrize(
    "module",
    [
        "analysis.curves",
        "analysis.results",
        "analysis.theory",
        "cli",
        "errors",
        "experiment",
        "modes",
        "pages",
        "rows",
        "shipped",
        "store",
        "terminal",
        "user_code",
    ],
)
def test_these_modules_never_import_what_is_slow(module: str) -> None:
    files = [file for file in FILES if f"{file}.".startswith(f"gradlab.{module}.")]
    assert files
    assert not [each for each in ALL if each.importer in files and each.imported in HEAVY and not each.for_types]


# As processes: one interpreter runs these commands in turn and reports what each of them imports

LISTS = ["list", "modes", "modes --json", "tasks", "experiments", "experiments diverging_loss"]
WRITES = ["explore"]
READS = ["show runs/noisy_line", "export runs/noisy_line", "audit --explain never-cleared"]
HELPS = ["--help", "--version", "run --help", "plot --help", "verify --help", "audit --help", "compare --help"]
FAILS = [
    "nonsense",
    "run --nonsense",
    "run -m nonsense",
    "run -m decay:2",
    "run --optimizer nonsense",
    "run --optimizer lbfgs",
    "run --task nonsense",
    "run --task nosuch.py:f",
    "run --lr -1",
    "run --steps 0",
    "run --set optimizer.nonsense=1",
    "run --set task_options.nonsense=1",
    "run nosuch.toml",
    "run nonsense",
    "run --out file",
    "show nosuch",
    "plot nosuch",
    "export nosuch",
    "sweep",
    "sweep --vary lr=1:0:3",
    "sweep --vary keep=no --seeds 2",
    "sweep --vary lr=-1,1",
    "sweep --vary optimizer.nonsense=1,2",
    "verify --only nonsense",
    "sharpness nosuch.toml",
    "sharpness -m nonsense",
    "explore -o file",
    "explore -o nosuch/page.html",
    "audit nosuch.py",
    "audit --explain nonsense",
    "audit --output-format nonsense nosuch.py",
    "audit -o nosuch/report.txt nosuch.py",
    "compare nosuch.py",
    "compare -m nonsense nosuch.py",
    "compare --module nosuch",
]
DRAWS = "plot runs/noisy_line -o loss.png"
REUSES = "run --task noisy_line --epochs 1"
TRAINS = "run --task noisy_line --steps 1 -q"
IN_TURN = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
before = set()
for line in sys.stdin.read().splitlines():
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        from gradlab.cli import main
        try:
            main(line.split())
        except SystemExit as end:
            status = end.code
    print(json.dumps([status, sorted(set(sys.modules) - before)]))
    before = set(sys.modules)
"""


class Imported(NamedTuple):
    status: int
    modules: set[str]  # those that commands before it have imported left out


def python(code: str, folder: Path, told: str = "") -> str:
    """Return what a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], input=told, capture_output=True, text=True, check=False,
                          cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which REUSES was run."""
    folder = tmp_path_factory.mktemp("imports")
    runs.run(from_task("noisy_line", [Override(("epochs",), 1, "--epochs")]), folder / "runs")
    (folder / "file").write_text("no folder")
    return folder


@pytest.fixture(scope="module")
def imported(trained: Path) -> dict[str, Imported]:
    """Return what each command imports that those before it have not."""
    commands = [*dict.fromkeys([*HELPS, *LISTS, *READS, *WRITES, *FAILS, REUSES, DRAWS, TRAINS])]
    printed = python(IN_TURN, trained, "\n".join(commands)).splitlines()
    found = [json.loads(line) for line in printed]
    return {command: Imported(status, set(names)) for command, (status, names) in zip(commands, found, strict=True)}


def test_import_gradlab_imports_no_library(folder: Path) -> None:
    python(f"import gradlab, sys; assert not set(sys.modules) & {HEAVY | {'typer', 'rich', 'pydantic'}}", folder)


def test_a_name_of_the_package_is_imported_at_its_first_use(folder: Path) -> None:
    python("import gradlab, sys; gradlab.Mode, gradlab.Task, gradlab.train; assert 'torch' not in sys.modules", folder)


@pytest.mark.xdist_group("imports")
@pytest.mark.parametrize("command", [*HELPS, *LISTS, *READS, *WRITES])
def test_what_only_reads_imports_nothing_slow(command: str, imported: dict[str, Imported]) -> None:
    assert imported[command].status == 0
    assert not imported[command].modules & HEAVY


@pytest.mark.xdist_group("imports")
@pytest.mark.parametrize("command", FAILS)
def test_what_fails_imports_nothing_slow(command: str, imported: dict[str, Imported]) -> None:
    assert imported[command].status == 2
    assert not imported[command].modules & HEAVY


@pytest.mark.xdist_group("imports")
def test_drawing_imports_neither_torch_nor_pyplot(trained: Path, imported: dict[str, Imported]) -> None:
    assert imported[DRAWS].status == 0
    assert not imported[DRAWS].modules & {"torch", "matplotlib.pyplot"}
    assert (trained / "loss.png").stat().st_size > 0


@pytest.mark.xdist_group("imports")
def test_a_reused_run_does_not_import_torch(imported: dict[str, Imported]) -> None:
    assert imported[REUSES].status == 0
    assert "torch" not in imported[REUSES].modules


@pytest.mark.xdist_group("imports")
def test_these_imports_were_seen(imported: dict[str, Imported]) -> None:
    assert {"gradlab", "typer"} <= imported["--help"].modules
    assert "matplotlib" in imported[DRAWS].modules
    assert "torch" in imported[TRAINS].modules


def test_an_audit_leaves_importing_torch_to_the_script(folder: Path) -> None:
    (folder / "script.py").write_text("import sys; assert 'torch' not in sys.modules")
    python("from gradlab.cli import main; main(['audit', '--exit-zero', 'script.py'])", folder)


def test_a_comparison_leaves_importing_torch_to_its_children(folder: Path) -> None:
    (folder / "train.py").write_text("loss(1.0), step()")
    code = f"""
import os, sys
from gradlab.cli import main
from gradlab.comparison import processes
processes._CHILD = {fake_child.CODE!r}
os.environ["FAKE_STARTS"] = os.devnull
try:
    main(["compare", "train.py"])
except SystemExit as end:
    assert (end.code, "torch" in sys.modules, "matplotlib" in sys.modules) == (0, False, False)
"""
    python(code, folder)


def test_the_command_is_the_module() -> None:
    script = Path(sys.executable).with_name("gradlab")
    assert script.is_file(), "the tests run where gradlab is installed: make install"
    for start in ([str(script)], [sys.executable, "-m", "gradlab"]):
        done = subprocess.run([*start, "--version"], capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == (f"gradlab {gradlab.__version__}\n", "")


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
    stacked = [json.loads(file.read_text()) for file in Path("runs/noisy_line").glob("*/run.json")]
    assert [each["settings"]["engine"] for each in stacked] == ["ensemble"] * 3
    assert len({each["seconds"] for each in stacked}) == 1, "trained as one stack, not one by one"
    assert "by the plain loop" not in done.stderr
