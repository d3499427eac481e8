"""gradlab.run, gradlab.sweep and gradlab.compare: names, errors, tasks, and when runs are reused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import gradlab
from gradlab import Task, tasks
from gradlab.cli import app
from gradlab.errors import GradlabError
from tests.api.making import MODES, exits_late, my_task, short, swept

ROOT = Path(__file__).parents[2]


def test_functions_stay_functions_in_any_order_of_imports() -> None:
    code = """
import importlib, itertools, sys
first = ["gradlab.sweeps", "gradlab.comparison.comparing", "gradlab.api.functions", "gradlab.cli"]
for order in itertools.permutations(first, 2):
    for name in [each for each in sys.modules if each.partition(".")[0] == "gradlab"]:
        del sys.modules[name]
    gradlab = importlib.import_module("gradlab")
    for name in order:
        importlib.import_module(name)
    print(*(type(each).__name__ for each in (gradlab.run, gradlab.sweep, gradlab.compare)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["function function function"] * 12, done.stderr[-2000:]


def test_completion_shows_what_the_page_names() -> None:
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    named = set(re.findall(r"gradlab\.([A-Za-z_]+)", page))
    assert {"GradlabError", "Task", "audit", "compare", "run", "sweep", "train"} <= named
    assert named - set(dir(gradlab)) == set()


def test_help_begins_with_an_example_of_five_lines() -> None:
    example = (gradlab.__doc__ or "").split("\n\n")[1].splitlines()
    assert len(example) == 5
    assert example[0].strip() == "import gradlab"


def test_the_default_is_the_shipped_experiment() -> None:
    result = gradlab.run(steps=3, quiet=True)
    assert (result.experiment, result.folder) == ("diverging_loss", Path("runs/diverging_loss"))
    assert result.modes == ["zero_grad", "no_zero_grad", "halve_grad"]


def test_a_run_has_the_losses_of_the_command_line() -> None:
    from gradlab.store import RunFolder

    words = ["--task", "noisy_line", "--lr", "0.02", "--steps", "5", "--seeds", "2", "--set", "momentum=0.5"]
    assert CliRunner().invoke(app, ["run", *words, "-q"]).exit_code == 0
    settings: dict[str, Any] = {"lr": 0.02, "steps": 5, "seeds": 2, "momentum": 0.5, "quiet": True}
    reused, trained = gradlab.run("noisy_line", **settings), gradlab.run("noisy_line", **settings, out=None)
    assert [(run.cached, other.cached) for run, other in zip(reused, trained, strict=True)] == [(True, False)] * 6
    written = [[row.loss for row in RunFolder(run.folder).rows().rows] for run in reused if run.folder]
    assert [run.losses.tolist() for run in trained] == written


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"experiment": "nonsense"}, ["nonsense"]),
        ({"task": "nope.py:f"}, ["--task", "nope.py:f"]),
        ({"modes": ["nope"]}, ["-m", "nope"]),
        ({"optimizer": "sgdd"}, ["--optimizer", "sgdd"]),
        ({"momentumm": 0.5}, ["--set", "momentumm=0.5"]),
        ({"task_options": {"depth": 3}}, ["--set", "task_options.depth=3"]),
        ({"device": "nope"}, ["--device", "nope"]),
        ({"lr": -1.0}, ["--lr", "-1.0"]),
        ({"keep": 0.5, "modes": "zero_grad"}, ["--set", "keep=0.5", "-m", "zero_grad"]),
    ],
)
def test_an_error_is_that_of_the_command_line(call: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(GradlabError) as raised:
        gradlab.run(**call, quiet=True)
    answer = CliRunner().invoke(app, ["run", *words, "-q"])
    in_python = answer.stderr.replace("--set ", "").replace("--mode", "modes").replace("--", "")
    assert (answer.exit_code, in_python) == (2, f"{raised.value}\n")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"experiment": "nonsense"}, "unknown experiment 'nonsense'"),
        ({"experiment": 42}, "expected an experiment or a task, got an int"),
        ({"experiment": my_task, "task": "noisy_line"}, "two tasks are given"),
        ({"seed": 1, "seeds": 2}, "seed and seeds exclude each other"),
        ({"lr": -1.0}, "lr must be greater than 0, got -1.0"),
        ({"momentumm": 0.5}, "unknown key 'momentumm'; did you mean 'optimizer.momentum'?"),
        ({"keep": 0.5, "modes": "zero_grad"}, "keep sets the mode, so modes cannot be used"),
        ({"modes": ["nope"]}, "unknown mode 'nope'"),
        ({"experiment": my_task, "task_options": {"depth": 3}}, "unknown option 'depth'"),
        ({"experiment": Task, "steps": 2}, "task 'Task' must take a seed"),
    ],
)
def test_an_error_comes_before_training(call: dict[str, Any], message: str) -> None:
    with pytest.raises(GradlabError) as raised:
        gradlab.run(**call, quiet=True)
    assert message in str(raised.value)
    assert not list(Path().glob("runs/*/*/run.json"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"workers": 2}, "workers=2 needs code that other processes can import"),
        ({"dask": "tcp://x:1"}, "dask='tcp://x:1' needs code that other processes can import"),
        ({"workers": 2, "dask": "tcp://x:1"}, "workers and dask exclude each other"),
        ({"vary": {}}, "nothing varies"),
        ({"modes": MODES}, "sets the modes and cannot be combined with modes"),
    ],
)
def test_errors_of_a_sweep_come_before_training(more: dict[str, Any], message: str) -> None:
    with pytest.raises(GradlabError) as raised:
        swept(**more)
    assert message in str(raised.value)


def test_out_none_keeps_no_files(tmp_path: Path) -> None:
    result = short(out=None)
    assert (result.folder, result.runs[0].folder) == (None, None)
    assert list(tmp_path.iterdir()) == []
    assert result.plot().axes


def test_a_finished_run_of_a_function_is_reused() -> None:
    assert [run.cached for run in short()] == [False, False]
    assert [run.cached for run in short()] == [True, True]
    assert [run.cached for run in short(fresh=True)] == [False, False]


def test_a_global_that_changes_the_first_loss_retrains() -> None:
    holder = SimpleNamespace(factor=1.0)  # attributes of objects are not part of the source

    def held(seed: int) -> Task:
        made = my_task(seed)
        return Task(made.model, made.batches, lambda model, batch: holder.factor * made.loss(model, batch))

    first = short(held)
    assert [run.cached for run in short(held)] == [True, True]
    holder.factor = 2.0
    again = short(held)
    assert [run.cached for run in again] == [False, False]
    assert again["zero_grad", 42].first_loss == 2 * first["zero_grad", 42].losses[0]
    assert again.folder == first.folder


def test_a_sweep_of_a_function_is_reused_if_it_starts_alike() -> None:
    holder = SimpleNamespace(factor=1.0)

    def held(seed: int) -> Task:
        made = my_task(seed)
        return Task(made.model, made.batches, lambda model, batch: holder.factor * made.loss(model, batch))

    assert [swept(held).cached, swept(held).cached] == [0, 8]
    holder.factor = 2.0
    assert swept(held).cached == 0


@pytest.mark.slow
def test_a_script_without_a_main_guard_may_sweep(folder: Path) -> None:
    call = 'gradlab.sweep("noisy_line", vary={"lr": [0.01, 0.1]}, steps=3, engine="loop", workers=2, quiet=True)'
    (folder / "script.py").write_text(f"import gradlab\nopen('ran', 'a').write('x')\n{call}.check()\n")
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, (folder / "ran").read_text()) == (0, "", "x"), done.stderr[-2000:]


def test_a_task_that_exits_ends_only_its_run() -> None:
    assert "SystemExit: 3" in short(exits_late)["zero_grad", 42].error
    holder = SimpleNamespace(error=None)

    def exits_at_once(seed: int) -> Task:
        if holder.error:
            raise holder.error
        return my_task(seed)

    assert short(exits_at_once).ok
    for error in (SystemExit(4), ValueError("four")):
        holder.error = error
        assert [run.status for run in short(exits_at_once)] == ["failed", "failed"]
        assert swept(exits_at_once).ended == {"failed": 8}


def test_reusing_runs_does_not_import_torch() -> None:
    short("noisy_line")
    code = (
        "import sys, gradlab; r = gradlab.run('noisy_line', modes=['zero_grad', 'no_zero_grad'], steps=6, quiet=True);"
    )
    code += "repr(r); assert all(run.cached for run in r) and len(r) == 2; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_mode_s_word_works_in_train() -> None:
    def losses(mode: Any) -> list[float]:
        task = tasks.build(tasks.find("noisy_line"), 1, {})
        optimizer = torch.optim.SGD(task.model.parameters(), lr=0.01)
        return [row.loss for row in gradlab.train(task, mode, optimizer, steps=5)]

    assert losses("no_zero_grad") == losses(gradlab.modes.no_zero_grad()) != losses("zero_grad")
    assert gradlab.modes.matched_lr_scale("halve-grad") == 0.5
