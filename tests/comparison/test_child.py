"""The process of one run: what it reports, and what it logs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import gradlab
from gradlab.comparison import child, processes
from gradlab.comparison.job import ScriptJob, ScriptOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = str(Path(gradlab.__file__).parents[1])
TRAIN = """
import sys, torch
import helper
w = torch.randn(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
for _ in range(6):
    optimizer.zero_grad(set_to_none=False)
    w.square().sum().backward()
    optimizer.step()
print("done", *sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def _main_restored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Restore what a script takes over as `__main__`."""
    monkeypatch.setattr(child, "end_with_parent", lambda: None)
    monkeypatch.setattr(sys, "argv", sys.argv)
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helper.py").write_text("")
    yield
    sys.modules.pop("helper", None)
    signal.signal(signal.SIGTERM, before)


def job(source: str, mode: str | None = None, **options: Any) -> ScriptJob:
    Path("train.py").write_text(source)
    values: dict[str, Any] = {
        "script": "train.py", "args": ["a"], "is_module": False, "mode": mode, "mode_folder": str(Path.cwd()),
        "seed": 3, "threads": 1, "rows_file": str(Path("metrics.jsonl").absolute()),
        "outcome_file": str(Path("outcome.json").absolute()),
    }  # fmt: skip
    made = ScriptJob(**(values | options))
    made.write(Path("job.json"))
    return made


def run(source: str, mode: str | None = None, **options: Any) -> ScriptOutcome:
    """Run a script in this process, and return its report."""
    job(source, mode, **options)
    child.main("job.json")
    return ScriptOutcome.read(Path("outcome.json"))


def losses() -> list[float]:
    return [json.loads(line)["loss"] for line in Path("metrics.jsonl").read_text().splitlines()]


def test_as_written_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(TRAIN)
    assert (outcome.status, outcome.passes, outcome.updates, outcome.rows) == (0, 6, 6, 6)
    (optimizer,) = outcome.optimizers
    assert optimizer == {
        "number": 1, "class": "SGD", "mode": "zero_grad:fill", "keep": 0.0, "passes": 1, "imposes": "zero_grad:fill"
    }  # fmt: skip
    assert {*outcome.sources} == {"helper.py", "train.py"}
    assert len(losses()) == 6
    assert capsys.readouterr().out == "done a\n"


def test_an_accumulating_script_reports_its_passes() -> None:
    outcome = run(TRAIN.replace("    optimizer.step()", "    (w.sum() / 2).backward(); optimizer.step()"))
    assert outcome.optimizers[0]["passes"] in (1, 2)
    source = """
import torch
w = torch.randn(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
for nth in range(1, 25):
    (w.square().sum() / 4).backward()
    if nth % 4 == 0:
        optimizer.step()
        optimizer.zero_grad()
"""
    (optimizer,) = run(source).optimizers
    assert (optimizer["mode"], optimizer["passes"], optimizer["imposes"]) == ("accumulate:4", 4, "zero_grad")


def test_modes_begin_alike_and_differ_later() -> None:
    zero = run(TRAIN, "zero_grad")
    first = losses()
    never = run(TRAIN, "no_zero_grad")
    assert zero.weights == never.weights != run(TRAIN, "zero_grad", seed=4).weights
    assert run(TRAIN, "no_zero_grad").rows_sha256 == never.rows_sha256 != zero.rows_sha256
    assert losses()[:2] == first[:2]
    assert (never.good, never.faults, never.doubts) == (6, {}, [])


def test_weights_of_a_late_optimizer_are_hashed() -> None:
    source = """
import torch
w = torch.randn(3, requires_grad=True)
for _ in range(6):
    w.square().sum().backward()
    torch.optim.SGD([w], lr=0.1).step()
"""
    outcome = run(source, "halve_grad")
    assert outcome.weights
    assert outcome.weights != run(source, "halve_grad", seed=4).weights


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "float8_e4m3fn", "complex64", "int8", "bool"])
def test_weights_of_every_type_are_hashed(dtype: str) -> None:
    source = f"""
import torch
torch.manual_seed({{}})
w = torch.randn(3, requires_grad=True)
frozen = torch.nn.Parameter(torch.randn(2, 3).T.to(torch.{dtype}), requires_grad=False)
scalar = torch.nn.Parameter(torch.zeros(()).to(torch.{dtype}), requires_grad=False)
optimizer = torch.optim.SGD([w, frozen, scalar, torch.nn.Parameter(torch.zeros(0))], lr=0.1)
w.square().sum().backward()
optimizer.step()
"""
    first, same, other = (run(source.format(seed), "zero_grad") for seed in (1, 1, 2))
    assert (first.status, first.updates) == (0, 1)
    assert first.weights == same.weights != other.weights


def test_remarks_and_doubts_are_reported() -> None:
    outcome = run(TRAIN, "accumulate:2")
    assert (outcome.remarks, outcome.doubts, outcome.updates) == (["windows continue across epochs"], [], 3)


def test_imports_are_reported_after_a_change_of_folder() -> None:
    folder = Path.cwd()
    job("import os, helper; os.chdir(os.sep)")
    child.main("job.json")
    assert {*ScriptOutcome.read(folder / "outcome.json").sources} == {"helper.py", "train.py"}


def test_imports_from_the_original_folder_are_reported(tmp_path: Path) -> None:
    """Packages installed in editable mode are not in the copy."""
    original = tmp_path.parent / f"original of {tmp_path.name}"
    for name in ("src/editable.py", "env/lib/site-packages/installed.py"):
        (original / name).parent.mkdir(parents=True)
        (original / name).write_text("")
    source = f"import sys; sys.path[:0] = {[str(original / 'src'), str(original / 'env/lib/site-packages')]}"
    outcome = run(source + "\nimport editable, installed", original=str(original))
    for name in ("editable", "installed"):
        del sys.modules[name]
    assert {*outcome.sources} - {"train.py"} == {"src/editable.py"}


def test_a_missing_script_is_an_error_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("", script="nope.py").status == 1
    assert capsys.readouterr().err == "script 'nope.py' cannot be read: No such file or directory\n"


def test_a_failing_script_reports_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(TRAIN.replace("    optimizer.step()", "    optimizer.step(); assert _ < 3"), "halve_grad")
    assert (outcome.status, outcome.passes, outcome.good) == (1, 4, 4)
    error = capsys.readouterr().err
    assert "AssertionError" in error
    assert "gradlab" not in error


def test_a_refused_script_ends_with_status_2() -> None:
    outcome = run("import torch\ntorch.optim.LBFGS([torch.ones(2, requires_grad=True)])\n")
    assert outcome.status == 2
    assert outcome.refused.startswith("LBFGS")


def test_limits_end_the_script() -> None:
    outcome = run(TRAIN, most_passes=4)
    assert (outcome.status, outcome.ended, outcome.passes) == (0, True, 4)
    assert (run(TRAIN, most_updates=2, rows_file=None)).updates == 2


def test_a_script_without_torch_reports_nothing() -> None:
    outcome = run("print('only this')")
    assert (outcome.status, outcome.passes, outcome.optimizers) == (0, 0, [])


def test_own_modes_are_found_in_the_users_folder() -> None:
    Path("mine.py").write_text("def halves(parameters, update):\n    for p in parameters: p.grad = p.grad / 2")
    assert run(TRAIN, "mine.py:halves").rows_sha256 == run(TRAIN, "halve_grad").rows_sha256


def test_all_generators_are_seeded() -> None:
    source = """
import json, pathlib, random, numpy, torch
drawn = [random.random(), numpy.random.rand(), torch.rand(1).item()]
pathlib.Path("drawn.json").write_text(json.dumps(drawn))
"""
    drawn = []
    for seed in (1, 1, 2):
        run(source, seed=seed)
        drawn.append(json.loads(Path("drawn.json").read_text()))
    assert drawn[0] == drawn[1]
    assert [one == other for one, other in zip(drawn[0], drawn[2], strict=True)] == [False] * 3


def test_sigterm_ends_the_script_with_a_report() -> None:
    outcome = run(TRAIN + "import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "halve_grad")
    assert (outcome.status, outcome.updates, outcome.good) == (143, 6, 6)


def test_several_threads_are_a_hint() -> None:
    assert run(TRAIN).hints == []
    outcome = run(TRAIN + "torch.set_num_threads(2)")
    assert outcome.hints == ["it sets torch to 2 threads"]


def test_an_interrupted_script_is_reported() -> None:
    assert run("raise KeyboardInterrupt").status == 130


@pytest.mark.slow  # two processes
def test_a_process_whose_script_swallows_its_end() -> None:
    source = TRAIN.replace("for _ in range(6):", "while True:\n  try:").replace("\n    ", "\n      ") + "\n"
    source = source.replace('print("done"', '  except SystemExit:\n      print("swallowed")\nprint("done"')
    for options, status in (({"most_passes": 5}, 0), ({"mode": "halve_grad", "most_updates": 3}, 0)):
        job(source, **options)
        command = [sys.executable, "-c", processes._CHILD, OURS, "job.json"]
        done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": OURS})
        assert (done.returncode, done.stderr) == (status, b"")
        assert done.stdout.count(b"swallowed") == 3
        outcome = ScriptOutcome.read(Path("outcome.json"))
        assert outcome.ended
        assert outcome.rows == len(losses()) > 2
        Path("outcome.json").unlink()
