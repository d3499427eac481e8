"""The pytest plugin: the fixture, the marker and the flag audit what tests train."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import gradlab
from gradlab import audit, pytest_plugin
from gradlab.audit.choice import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]

ROOT = Path(gradlab.__file__).parents[1]
IMPORTED = [audit, settings]  # before pytester, which forgets what its runs import
STRICT = ["--strict-markers", "--strict-config", "-W", "error", "-p", "no:cacheprovider", "-p", "no:xdist"]
TRAIN = """\
import pytest, torch, unittest
from gradlab import audit

def train(clear=False):
    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.01)
    for _ in range(9):
        w.square().sum().backward()
        optimizer.step()
        if clear:
            optimizer.zero_grad()
"""
FINDING = ["*error never-cleared, since update 2, at test_it.py:8, 9", "*instead: optimizer.zero_grad() before each*"]
WHOLE = ["*gradlab audit: 1 error", "*SGD: 1 parameter, 9 updates, 1 backward pass per update, keep 1: no_zero_grad"]


@pytest.fixture(autouse=True, scope="module")
def _all_is_imported() -> None:
    """Train once, so that no run inside pytester is the first to import a part of torch, which it then forgets."""
    with audit.watch(1) as report:
        exec(f"{TRAIN}\ntrain(clear=True)", {})  # noqa: S102 - our own code
    assert report.ok, str(report)


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs tests with the plugin, strictly, in this process."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # also ours, if this checkout is installed

    def run_tests(tests: str, *options: str, **files: str) -> pytest.RunResult:
        pytester.makepyfile(test_it=TRAIN + tests)
        pytester.makepyprojecttoml(files.get("pyproject", ""))
        pytester.makeconftest(files.get("conftest", ""))
        return pytester.runpytest_inprocess(*STRICT, *options, plugins=[pytest_plugin])

    return run_tests


def outcomes(result: pytest.RunResult) -> dict[str, int]:
    return result.parseoutcomes()


# Off unless asked


def test_without_being_asked_nothing_is_audited(run: Run) -> None:
    result = run("def test_it(): train()")
    assert outcomes(result) == {"passed": 1}


IMPORTS = """
import sys, pytest
status = pytest.main(["-q", "--strict-markers", "-p", "no:cacheprovider", *sys.argv[1:]])
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("gradlab", "torch", "numpy", "pydantic")))
sys.exit(status)
"""


def fresh(*options: str, plugin: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of the current folder in a fresh interpreter."""
    given = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""} | environment
    words = [*(["-p", "gradlab.pytest_plugin"] if plugin else []), *options]
    return subprocess.run(
        [sys.executable, "-c", IMPORTS, *words], env=os.environ | given, capture_output=True, text=True, check=False
    )


def test_the_start_imports_neither_torch_nor_the_audit(folder: Path) -> None:
    (folder / "test_it.py").write_text("def test_it(): pass")
    done = fresh()
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "['gradlab', 'gradlab.pytest_plugin']")


def test_installing_gradlab_installs_the_plugin(folder: Path) -> None:
    points = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    assert points == {"pytest11": {"gradlab": "gradlab.pytest_plugin"}}
    installed = folder / "site" / "tried-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: tried\nVersion: 1\n")
    (installed / "entry_points.txt").write_text("[pytest11]\ngradlab = gradlab.pytest_plugin\n")
    (folder / "test_it.py").write_text(
        "import pytest\n@pytest.mark.gradlab_audit\ndef test_it(gradlab_audit): assert gradlab_audit.ok"
    )
    path = os.pathsep.join([str(installed.parent), str(ROOT)])
    done = fresh("-p", "gradlab", plugin=False, PYTHONPATH=path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no optimizer was seen" in done.stdout
    assert "torch" not in done.stdout.splitlines()[-1]


# The fixture


def test_the_fixture_is_the_report_of_the_test(run: Run) -> None:
    result = run("""
def test_it(gradlab_audit):
    train()
    assert [each.id for each in gradlab_audit.findings] == ["never-cleared"]
    assert gradlab_audit.optimizers[0].updates == 9

@pytest.mark.parametrize("clear", [True, False])
def test_own_report(gradlab_audit, clear):
    train(clear)
    assert gradlab_audit.ok == clear
    assert len(gradlab_audit.optimizers) == 1
""")
    assert outcomes(result) == {"passed": 3}


def test_check_fails_with_the_whole_report(run: Run) -> None:
    result = run("""
def test_it(gradlab_audit):
    train()
    gradlab_audit.check()
""")
    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines([">       gradlab_audit.check()", f"E       AssertionError: {WHOLE[0][1:]}", *FINDING])
    result.stdout.no_fnmatch_line("*def check*")  # our own frames
    result.stdout.no_fnmatch_line("*- gradlab audit -*")  # once is enough


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("pass", "*no optimizer was seen*"),
        ("torch.optim.SGD([torch.ones(1, requires_grad=True)])", "*no optimizer took a step*"),
    ],
)
def test_check_fails_if_nothing_stepped(run: Run, body: str, said: str) -> None:
    result = run(f"def test_it(gradlab_audit):\n    {body}\n    gradlab_audit.check()\n")
    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines(["E       AssertionError: gradlab audit: *", said])


def test_check_passes_for_a_correct_training() -> None:
    with audit.watch() as report:
        exec(f"{TRAIN}\ntrain(clear=True)", {})  # noqa: S102 - our own code
    assert report.check() is None  # type: ignore[func-returns-value]


def test_check_ends_the_watch_so_that_it_sees_the_end() -> None:
    code = (
        f"{TRAIN}\nlosses = []\nw = torch.ones(3, requires_grad=True)\noptimizer = torch.optim.SGD([w], lr=0.01)\n"
        "for _ in range(30):\n    loss = w.square().sum()\n    loss.backward()\n    optimizer.step()\n"
        "    optimizer.zero_grad()\n    losses.append(loss)\nreport.check()"
    )
    with audit.watch() as report:
        with pytest.raises(AssertionError, match="warning graph-kept"):
            exec(compile(code, "<ipython-input-1>", "exec"), {"report": report})  # noqa: S102 - our own code
        exec(f"{TRAIN}\ntrain()", {})  # noqa: S102 - no longer watched
    assert [each.id for each in report.findings] == ["graph-kept"]


def test_check_fails_if_threads_trained_at_once() -> None:
    with audit.watch() as report:
        exec(f"{TRAIN}\ntrain(clear=True)", {})  # noqa: S102 - our own code
    report.history.threads_at_once = True
    with pytest.raises(AssertionError, match="no verdict"):
        report.check()


# The marker


def test_a_marked_test_fails_for_findings_and_without_training(run: Run) -> None:
    result = run("""
pytestmark = pytest.mark.gradlab_audit

def test_faulty(): train()
def test_correct(): train(clear=True)
def test_nothing(): pass
""")
    assert outcomes(result) == {"failed": 2, "passed": 1}
    result.stdout.fnmatch_lines(
        ["*_ test_faulty _*", *WHOLE, *FINDING, "*_ test_nothing _*", "*no optimizer was seen. Perhaps*"]
    )
    result.stdout.no_fnmatch_line("*During handling*")
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_the_nearest_marker_comes_last(run: Run) -> None:
    result = run("""
pytestmark = pytest.mark.gradlab_audit(ignore=["never-cleared"])

def test_of_the_module(): train()

@pytest.mark.gradlab_audit(select=["never-cleared"])
class TestClass:
    def test_of_the_class(self): train()

    @pytest.mark.gradlab_audit(ignore=["never_cleared"])
    def test_of_the_test(self): train()

    @pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.gradlab_audit(ignore=["never-cleared"]))])
    def test_of_a_parameter(self, n): train()
""")
    assert outcomes(result) == {"failed": 2, "passed": 3}
    result.stdout.fnmatch_lines(["FAILED *test_of_the_class - *", "FAILED *test_of_a_parameter[[]1] - *"])


def test_the_marker_also_checks_the_report_of_the_fixture(run: Run) -> None:
    result = run("""
@pytest.mark.gradlab_audit(ignore=["never-cleared"])
def test_ignored(gradlab_audit):
    train()
    assert gradlab_audit.findings == []

@pytest.mark.gradlab_audit
def test_faulty(gradlab_audit):
    train()
""")
    assert outcomes(result) == {"passed": 1, "failed": 1}
    result.stdout.fnmatch_lines(FINDING)


def test_a_comment_in_a_test_file_counts(run: Run) -> None:
    result = run("""
@pytest.mark.gradlab_audit
def test_it():
    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.01)
    for _ in range(9):
        w.square().sum().backward()
        optimizer.step()  # gradlab: ignore[never-cleared]
""")
    assert outcomes(result) == {"passed": 1}


def test_the_marker_works_on_unittest_classes(run: Run) -> None:
    result = run("""
@pytest.mark.gradlab_audit
class TestClass(unittest.TestCase):
    def test_faulty(self): train()
    def test_correct(self): train(clear=True)
""")
    assert outcomes(result) == {"failed": 1, "passed": 1}
    result.stdout.fnmatch_lines(FINDING)


def test_fixtures_that_train_are_outside_of_the_test(run: Run) -> None:
    result = run("""
@pytest.fixture(scope="module")
def trained(): train()

@pytest.mark.gradlab_audit
def test_it(trained): pass
""")
    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines(["*no optimizer was seen*"])


def test_an_expected_failure_and_a_skip_keep_their_outcome(run: Run) -> None:
    result = run("""
pytestmark = pytest.mark.gradlab_audit

@pytest.mark.xfail(strict=True)
def test_expected(): train()

def test_skipped(): pytest.skip("no data")
""")
    assert outcomes(result) == {"xfailed": 1, "skipped": 1}


# The flag


def test_the_flag_audits_every_test_that_trains(run: Run) -> None:
    result = run(
        """
def test_faulty(): train()
def test_correct(): train(clear=True)
def test_nothing(): pass
def test_forgets_to_check(gradlab_audit): train()
def test_correct_with_fixture(gradlab_audit): train(clear=True)
def test_fixture_without_training(gradlab_audit): pass

def test_checks_itself(gradlab_audit):
    train()
    with pytest.raises(AssertionError, match="never-cleared"):
        gradlab_audit.check()

@pytest.mark.gradlab_audit
def test_marked(): pass
""",
        "--gradlab-audit",
    )
    assert outcomes(result) == {"failed": 3, "passed": 5}
    result.stdout.fnmatch_lines(
        [
            "FAILED *::test_faulty - *gradlab audit: 1 error",
            "FAILED *::test_forgets_to_check - *gradlab audit: 1 error",
            "FAILED *::test_marked - *",
        ]
    )


def test_the_table_of_pyproject_counts_and_markers_precede_it(run: Run) -> None:
    result = run(
        """
def test_ignored(): train()

@pytest.mark.gradlab_audit(select=["never-cleared"])
def test_selected(): train()
""",
        "--gradlab-audit",
        pyproject="[tool.gradlab.audit]\nignore = ['never-cleared']\n",
    )
    assert outcomes(result) == {"passed": 1, "failed": 1}


# Failures of the test itself


def test_a_failing_test_shows_its_report_in_full(run: Run) -> None:
    result = run(
        """
def test_with_watch():
    with audit.watch() as report:
        train()
    assert report.ok, report

def test_with_flag():
    train()
    assert 0, "of its own"
""",
        "--gradlab-audit",
    )
    assert outcomes(result) == {"failed": 2}
    one = ["*- gradlab audit -*", *WHOLE, *FINDING]
    result.stdout.fnmatch_lines(["*_ test_with_watch _*", *one, "*_ test_with_flag _*", "*of its own*", *one])


def test_a_failing_test_without_findings_shows_no_report(run: Run) -> None:
    result = run("def test_it():\n    train(clear=True)\n    assert 0", "--gradlab-audit")
    assert outcomes(result) == {"failed": 1}
    result.stdout.no_fnmatch_line("*gradlab audit*")


# Mistakes


MISTAKES = """
@pytest.mark.gradlab_audit(["graph-kept"], ignore=["never-clear"], slect=["graph-kept"])
def test_it(): train()
"""
MESSAGES = [
    "*test_it.py::test_it: @pytest.mark.gradlab_audit takes only select=[[]...] and ignore=[[]...]",
    "*test_it.py::test_it: @pytest.mark.gradlab_audit: unknown argument 'slect'; did you mean 'select'?*",
    "*test_it.py::test_it: @pytest.mark.gradlab_audit: ignore: unknown rule 'never-clear'; did you mean *",
]


def test_mistakes_of_a_marker_are_a_usage_error(run: Run) -> None:
    result = run(MISTAKES)
    assert (result.ret, outcomes(result)) == (pytest.ExitCode.USAGE_ERROR, {})
    result.stderr.fnmatch_lines(MESSAGES)


def test_in_a_worker_of_xdist_mistakes_fail_the_test(run: Run) -> None:
    result = run(MISTAKES, conftest="def pytest_configure(config): config.workerinput = {}")
    assert outcomes(result) == {"failed": 1}
    result.stdout.fnmatch_lines(MESSAGES)


@pytest.mark.parametrize("asked", ["--gradlab-audit", "marker", "fixture"])
def test_mistakes_of_pyproject_are_a_usage_error_if_asked(run: Run, asked: str) -> None:
    tests = {
        "marker": "@pytest.mark.gradlab_audit\ndef test_it(): pass",
        "fixture": "def test_it(gradlab_audit): pass",
    }.get(asked, "def test_it(): pass")
    options = [asked] if asked.startswith("-") else []
    wrong = "[tool.gradlab.audit]\nsample = 0\n"
    result = run(tests, *options, pyproject=wrong)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*pyproject.toml:2: tool.gradlab.audit.sample: must be an integer of at least 1*"])
    assert outcomes(run("def test_it(): pass", pyproject=wrong)) == {"passed": 1}


# xdist


@pytest.mark.slow  # processes that import torch
def test_workers_of_xdist_audit_and_report(folder: Path) -> None:
    pytest.importorskip("xdist")
    tests = "def test_faulty(): train()\ndef test_correct(): train(clear=True)\ndef test_nothing(): pass\n"
    (folder / "test_it.py").write_text(TRAIN + tests)
    done = fresh("-p", "xdist", "-n", "2", "--gradlab-audit", "-W", "error", "--color=no")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 2 passed" in done.stdout
    assert "error never-cleared, since update 2, at test_it.py:8, 9" in done.stdout
