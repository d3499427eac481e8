"""gradlab from Python: runs and sweeps as functions, their results, and the state of the caller's process."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import threading
from itertools import permutations
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradlab
from gradlab import Task, tasks
from gradlab.api import arguments, session
from gradlab.api.progress import NotebookDisplay
from gradlab.errors import CheckError, ExperimentError, GradlabError, PlotError, TaskError, UnknownRunError

if TYPE_CHECKING:
    from collections.abc import Iterator

MODES = ["zero_grad", "no_zero_grad"]
FACTOR = 1.0


def my_task(seed: int, width: int = 2) -> Task:  # noqa: ARG001 - gradlab seeds the generators
    model = torch.nn.Linear(width, 1)
    batches = [(torch.randn(3, width), torch.randn(3, 1)) for _ in range(4)]

    def loss(model: Any, batch: Any) -> torch.Tensor:
        return FACTOR * torch.nn.functional.mse_loss(model(batch[0]), batch[1])

    return Task(model, batches, loss)


def failing(seed: int) -> Task:
    made = my_task(seed)

    def loss(*_: Any) -> torch.Tensor:
        raise ZeroDivisionError("on purpose")

    return Task(made.model, made.batches, loss)


def exits_late(seed: int) -> Task:
    made = my_task(seed)

    def loss(*_: Any) -> torch.Tensor:
        raise SystemExit(3)

    return Task(made.model, made.batches, loss)


def short(task: Any = my_task, **more: Any) -> gradlab.api.run_results.ExperimentRuns:
    return gradlab.run(task, **{"modes": MODES, "steps": 6, "quiet": True, **more})


@pytest.fixture(autouse=True)
def _quiet_stdout(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Nothing here prints to stdout."""
    yield
    assert capsys.readouterr().out == ""


# Names


@pytest.mark.slow
def test_functions_stay_functions_in_any_order_of_imports() -> None:
    first = ["gradlab.sweeps", "gradlab.comparison.comparing", "gradlab.api.functions", "gradlab.cli"]
    code = "import importlib, sys, gradlab\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
    code += "assert all(type(each) is type(lambda: 0) for each in (gradlab.run, gradlab.sweep, gradlab.compare))"
    done = [
        subprocess.run([sys.executable, "-c", code, *order], check=False).returncode
        for order in permutations(first, 2)
    ]
    assert done == [0] * 12


def test_completion_shows_what_the_package_exports() -> None:
    assert set(gradlab.__all__) <= set(dir(gradlab))


def test_help_begins_with_an_example_of_five_lines() -> None:
    example = (gradlab.__doc__ or "").split("\n\n")[1].splitlines()
    assert len(example) == 5
    assert example[0].strip() == "import gradlab"


# Arguments


def test_the_default_is_the_shipped_experiment() -> None:
    result = gradlab.run(steps=3, quiet=True)
    assert (result.experiment, result.folder) == ("diverging_loss", Path("runs/diverging_loss"))
    assert result.modes == ["zero_grad", "no_zero_grad", "halve_grad"]


def test_a_run_has_the_losses_of_the_command_line() -> None:
    from typer.testing import CliRunner

    from gradlab.cli import app

    words = [
        "run",
        "--task",
        "noisy_line",
        "--lr",
        "0.02",
        "--steps",
        "5",
        "--seeds",
        "2",
        "-q",
        "--set",
        "momentum=0.5",
    ]
    assert CliRunner().invoke(app, words).exit_code == 0
    result = gradlab.run("noisy_line", lr=0.02, steps=5, seeds=2, momentum=0.5, quiet=True)
    assert [run.cached for run in result] == [True] * 6


@pytest.mark.parametrize(
    ("given", "seeds"), [({"seeds": 3}, [0, 1, 2]), ({"seeds": [4, 7]}, [4, 7]), ({"seed": 5}, [5]), ({}, [42])]
)
def test_an_int_for_seeds_means_zero_to_n_minus_one(given: dict[str, Any], seeds: list[int]) -> None:
    assert short(**given).seeds == seeds


def test_a_file_may_give_the_number_of_seeds(folder: Path) -> None:
    (folder / "mine.toml").write_text('task = "noisy_line"\nsteps = 2\nseeds = 2\n')
    assert gradlab.run("mine.toml", quiet=True).seeds == [0, 1]
    with pytest.raises(ExperimentError, match="seeds must be a list, or the number of seeds from 1 to 100,000, got 0"):
        gradlab.run(folder / "mine.toml", seeds=0)


def test_tables_and_short_keys_reach_the_experiment() -> None:
    given: dict[str, Any] = {
        "optimizer": {"name": torch.optim.Adam, "betas": (0.5, np.float64(0.9))}, "keep": 0.25, "batch_size": None,
        "task_options": {"samples": 10}, "clip_norm": np.float32(1.0),
    }  # fmt: skip
    with arguments.chosen_experiment("run", None, "noisy_line", arguments.overrides_in(given)) as chosen:
        assert chosen.optimizer.options == {"lr": 0.01, "betas": [0.5, 0.9]}
        assert (chosen.optimizer.name, chosen.modes, chosen.clip_norm) == ("Adam", ["keep=0.25,every=1"], 1.0)
        assert chosen.task_options == {"samples": 10}


def test_modes_are_words_or_modes() -> None:
    result = short(modes=[gradlab.modes.decay(0.5), "No-Zero-Grad"])
    assert result.modes == ["decay:0.5", "no_zero_grad"]
    assert short(modes="halve_grad").modes == ["halve_grad"]


def test_a_mode_in_a_file_keeps_its_path(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "own.py").write_text("def clip(parameters, update): pass\n")
    mode = gradlab.modes.parse("deep/own.py:clip,every=2")
    assert short(modes=mode).modes == ["own.py:clip,every=2"]


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
def test_errors_are_those_of_the_command_line(call: dict[str, Any], message: str) -> None:
    with pytest.raises(GradlabError) as raised:
        gradlab.run(**call, quiet=True)
    assert message in str(raised.value)
    assert not list(Path().glob("runs/*/*/run.json"))


# Results


def test_a_result_is_read_by_mode_and_seed() -> None:
    result = short(seeds=2)
    assert [(run.mode, run.seed) for run in result] == [(mode, seed) for mode in MODES for seed in (0, 1)]
    assert result["no_zero_grad"].runs == result.runs[2:]
    one = result["no-zero-grad", 1]
    assert (one.mode, one.seed, one.status, one.steps) == ("no_zero_grad", 1, "done", 6)
    assert one.losses.shape == (6,)
    assert one.losses.dtype == np.float64
    assert one.losses.tolist() == [row.loss for row in one.rows]
    assert repr(one).startswith("<run no_zero_grad seed 1: status done, verdict ")


def test_an_unknown_mode_or_seed_is_an_error_of_both_kinds() -> None:
    result: Any = short()
    for key, message in {
        "zero": "unknown mode of this result 'zero'",
        ("zero_grad", 3): "has no seed 3. Seeds: 42",
    }.items():
        with pytest.raises(UnknownRunError) as raised:
            result[key]
        assert isinstance(raised.value, KeyError)
        assert message in str(raised.value)
    assert result._ipython_key_completions_() == MODES


def test_models_are_those_that_were_trained_just_now() -> None:
    first, second = short(), short()
    models = [run.model for run in first]
    assert all(isinstance(model, torch.nn.Linear) for model in models) is bool(models)
    assert [run.model for run in second] == [None, None]
    assert models[0] is not None
    assert models[1] is not None
    assert not torch.equal(models[0].weight, models[1].weight)  # type: ignore[arg-type]  # of a Linear


def test_a_stack_hands_out_the_models_of_the_plain_loop() -> None:
    one, other = (short(engine=engine, out=None, modes=[*MODES, "accumulate:2"]) for engine in ("loop", "ensemble"))
    assert len(one) == 3
    for run in one:
        model, stacked = run.model, other[run.mode, run.seed].model
        assert model is not None
        assert stacked is not None
        for name, each in model.state_dict().items():
            # sums of a batch may be added in another order
            torch.testing.assert_close(stacked.state_dict()[name], each, rtol=1e-5, atol=1e-6)


def test_rows_have_the_columns_of_the_export() -> None:
    from gradlab import store

    result = short()
    records = [(store.RunFolder(run.folder).read(), run.rows, run.evaluations) for run in result if run.folder]
    lines = list(store.csv_of(records))
    assert lines[0].strip().split(",") == list(result.rows[0])
    assert len(lines) - 1 == len(result.rows) == 12
    pandas = pytest.importorskip("pandas")
    frame = result.to_pandas()
    assert list(frame.columns) == lines[0].strip().split(",")
    assert frame.groupby("mode")["loss"].last()["no_zero_grad"] == result["no_zero_grad", 42].last_loss
    assert isinstance(frame, pandas.DataFrame)


def test_pandas_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(GradlabError, match="to_pandas needs pandas: pip install pandas"):
        short().to_pandas()


def test_a_terminal_prints_the_table_in_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    result = short(seeds=3)
    monkeypatch.setenv("COLUMNS", "40")
    assert max(map(len, repr(result).splitlines())) <= 40
    monkeypatch.setenv("COLUMNS", "120")
    assert repr(result).splitlines()[1].split()[:4] == ["mode", "first", "last", "best"]


def test_a_notebook_shows_picture_and_table() -> None:
    shown = short()._repr_html_()
    assert shown.startswith('<img src="data:image/png;base64,iVBOR')
    assert shown.count("<tr>") == 3
    assert 'alt="Loss curves of zero_grad, no_zero_grad"' in shown
    assert re.search(r'<span style="color: #\w{6}">(falls|rises|oscillates|flat|diverges)</span>', shown)


def test_html_of_failed_runs_says_why() -> None:
    result = short(failing, expect={"zero_grad": {"verdict": "falls"}})
    shown = result._repr_html_()
    assert "<img" not in shown
    assert "ZeroDivisionError: on purpose" in shown
    assert "expected zero_grad seed 42: verdict = falls, got None" in shown


def test_plot_is_a_figure_that_a_notebook_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails
    figure: Any = short().plot(x="step", title="mine", width=600)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert figure.axes[0].get_xlabel() == "step"


def test_geometry_is_in_the_rows_and_the_columns() -> None:
    result = short(log="geometry")
    assert list(result.rows[0])[-4:] == ["fresh_norm", "gradient_norm", "cosine", "update_norm"]
    assert result.rows[0]["update_norm"] > 0
    assert list(result.to_pandas().columns) == list(result.rows[0])
    assert result.plot("step", "cosine").axes[0].get_ylabel() == "cosine to fresh gradient"
    assert "cosine" not in short().rows[0]


def test_plot_of_an_unknown_quantity_names_those_logged() -> None:
    with pytest.raises(PlotError, match=r"did not log 'accuracy'. Logged: loss$"):
        short().plot(y="accuracy")


def test_check_returns_the_result_or_raises_what_failed() -> None:
    good = short(expect={"zero_grad": {"steps": 6}})
    assert good.check() is good
    assert good.ok
    with pytest.raises(CheckError, match=r"expected zero_grad seed 42: steps = 7, got 6"):
        short(expect={"zero_grad": {"steps": 7}}).check()
    failed = short(failing)
    assert not failed.ok
    with pytest.raises(CheckError) as raised:
        failed.check()
    assert str(raised.value).startswith("zero_grad seed 42, no_zero_grad seed 42 failed:\nTraceback (your code):")


def test_out_none_keeps_no_files(tmp_path: Path) -> None:
    result = short(out=None)
    assert (result.folder, result.runs[0].folder) == (None, None)
    assert list(tmp_path.iterdir()) == []
    assert result.plot().axes


# Tasks


def test_a_task_object_is_copied_and_stays_as_it_was() -> None:
    task = my_task(0)
    before = {name: each.clone() for name, each in task.model.state_dict().items()}
    result = short(task)
    losses = [run.losses[0] for run in result]
    assert losses[0] == losses[1]
    assert all(torch.equal(each, before[name]) for name, each in task.model.state_dict().items()) is bool(before)
    assert task.model.weight.grad is None
    assert result["zero_grad", 42].model is not task.model


def test_a_task_object_has_one_seed() -> None:
    with pytest.raises(ExperimentError, match="a Task object has one start, so it cannot train 3 seeds"):
        short(my_task(0), seeds=3)


def test_a_task_that_cannot_be_copied_is_refused() -> None:
    task = my_task(0)
    with pytest.raises(TaskError, match="the Task cannot be copied: TypeError"):
        short(Task(task.model, [threading.Lock()], task.loss))


def test_a_task_with_other_weights_is_another_run() -> None:
    short(my_task(0))
    torch.manual_seed(1)
    assert [run.cached for run in short(my_task(0))] == [False, False]


def test_a_function_with_the_name_of_a_built_in_task_is_its_own() -> None:
    def noisy_line(seed: int) -> Task:
        return my_task(seed)

    own, built_in = short(noisy_line), short("noisy_line")
    assert own["zero_grad", 42].first_loss != built_in["zero_grad", 42].first_loss


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


def test_a_global_number_is_part_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    one = tasks.sources.hash_of_source(my_task)
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
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


def test_a_mode_s_word_works_in_train() -> None:
    def losses(mode: Any) -> list[float]:
        task = tasks.build(tasks.find("noisy_line"), 1, {})
        optimizer = torch.optim.SGD(task.model.parameters(), lr=0.01)
        return [row.loss for row in gradlab.train(task, mode, optimizer, steps=5)]

    assert losses("no_zero_grad") == losses(gradlab.modes.no_zero_grad()) != losses("zero_grad")
    assert gradlab.modes.matched_lr_scale("halve-grad") == 0.5


# Sweeps


def swept(task: Any = my_task, **more: Any) -> Any:
    return gradlab.sweep(
        task, **{"vary": {"lr": [0.01, 0.1], "keep": "0:1:2"}, "steps": 4, "seeds": 2, "quiet": True, **more}
    )


def test_a_sweep_has_one_row_per_run() -> None:
    result = swept()
    assert len(result) == len(result.rows) == 8
    assert list(result.rows[0])[:4] == ["lr", "keep", "mode", "seed"]
    assert result.axes == {"lr": [0.01, 0.1], "keep": [0.0, 1.0]}
    assert (result.seeds, result.modes, result.ok) == ([0, 1], [], True)
    assert result.check() is result
    assert result.plot(title="map").axes
    assert result._repr_html_().startswith("<img ")
    assert repr(result).splitlines()[:2] == ["lr 0.01, 0.1 × keep 0.0, 1.0", "2 seeds: 8 runs"]
    assert len(pytest.importorskip("pandas").unique(result.to_pandas()["lr"])) == 2


def test_a_sweep_of_a_function_is_reused_if_it_starts_alike() -> None:
    holder = SimpleNamespace(factor=1.0)

    def held(seed: int) -> Task:
        made = my_task(seed)
        return Task(made.model, made.batches, lambda model, batch: holder.factor * made.loss(model, batch))

    assert [swept(held).cached, swept(held).cached] == [0, 8]
    holder.factor = 2.0
    assert swept(held).cached == 0


def test_a_sweep_reports_what_failed() -> None:
    result = swept(failing, out=None)
    assert (result.folder, result.ok) == (None, False)
    with pytest.raises(CheckError, match="8 runs failed:\n"):
        result.check()
    assert "8 runs failed:" in result._repr_html_()


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


def test_values_of_an_axis_are_written_as_toml() -> None:
    vary = {
        "lr": np.array([0.1, 0.2]),
        "optimizer.betas": [[0.5, 0.9], [0.1, 0.2]],
        "optimizer.nesterov": [True],
        "a": 3,
    }
    assert arguments.axis_texts({**vary, "task": ["x", "y"], "keep": "0:1:5"}) == [
        "lr=0.1,0.2",
        "optimizer.betas=[0.5, 0.9],[0.1, 0.2]",
        "optimizer.nesterov=true",
        "a=3",
        'task="x","y"',
        "keep=0:1:5",
    ]


@pytest.mark.slow
def test_a_script_without_a_main_guard_may_sweep(folder: Path) -> None:
    call = 'gradlab.sweep("noisy_line", vary={"lr": [0.01, 0.1]}, steps=3, engine="loop", workers=2, quiet=True)'
    (folder / "script.py").write_text(f"import gradlab\nopen('ran', 'a').write('x')\n{call}.check()\n")
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, (folder / "ran").read_text()) == (0, "", "x"), done.stderr[-2000:]


# The caller's process


def state() -> list[object]:
    return [
        random.getstate(),
        repr(np.random.get_state()),
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
        threading.active_count(),
    ]


def interrupting(seed: int, *, at: int = 3, times: int = 1) -> Task:
    made, calls = my_task(seed), []

    def loss(model: Any, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == at and not Path("asked").exists():
            Path("asked").touch()
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return made.loss(model, batch)

    return Task(made.model, made.batches, loss)


def test_generators_threads_and_signals_are_as_before() -> None:
    torch.set_num_threads(2)
    before = state()
    short()
    assert state() == before
    with pytest.raises(KeyboardInterrupt):
        short(interrupting)
    assert state() == before


def test_the_next_call_continues_after_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt) as raised:
        short(interrupting, checkpoint_every=1e-6, task_options={"at": 3})
    assert str(raised.value) == "zero_grad seed 42 stopped after 3 steps; the same call continues from there"
    result = short(interrupting, task_options={"at": 3})
    assert [run.steps for run in result] == [6, 6]
    assert result["zero_grad", 42].losses.tolist() == short(out=None)["zero_grad", 42].losses.tolist()


def test_a_second_interrupt_stops_at_once() -> None:
    before = state()
    with pytest.raises(KeyboardInterrupt):
        short(interrupting, task_options={"at": 3, "times": 2})
    assert state() == before
    assert [run.status for run in short(interrupting, task_options={"at": 3, "times": 2})] == ["done", "done"]


def test_without_files_nothing_can_continue() -> None:
    with pytest.raises(KeyboardInterrupt) as raised:
        short(interrupting, out=None)
    assert str(raised.value) == "stopped"


def test_a_handler_that_is_not_python_s_is_left_alone() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with session.training_session():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_during_the_end_waits_for_it() -> None:
    done = []

    def end() -> None:
        with session._interrupts_delayed():
            signal.raise_signal(signal.SIGINT)
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        end()
    assert done == [1]


def test_it_works_off_the_main_thread_one_at_a_time() -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(short(out=None))) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert [result["zero_grad", 42].losses.tolist() for result in found] == [
        short()["zero_grad", 42].losses.tolist()
    ] * 2


def test_a_first_import_leaves_generators_as_at_import() -> None:
    code = """
import random, gradlab
before = random.getstate()
gradlab.run("noisy_line", steps=2, quiet=True)
assert random.getstate() == before
import torch, numpy
assert torch.equal(torch.get_rng_state(), torch.Generator().get_state())
one = numpy.random.get_state()[1].tolist()
gradlab.run("noisy_line", steps=3, quiet=True)
assert numpy.random.get_state()[1].tolist() == one
numpy.random.seed(42)
assert numpy.random.get_state()[1].tolist() != one
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]


def test_what_was_not_imported_is_left_as_at_import() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    numbers = repr(np.random.get_state())
    session._restore({"python": random.getstate(), "numpy": None})
    assert torch.equal(torch.get_rng_state(), torch.Generator().get_state())
    assert repr(np.random.get_state()) != numbers


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


# Progress


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


def test_a_notebook_has_one_updating_output(shell: Shell) -> None:
    short(quiet=False)
    assert shell.displays == 1
    assert "<progress" in shell.shown[0]["text/html"]
    assert "1/2 zero_grad seed 42" in shell.shown[0]["text/plain"]
    assert "<progress" not in shell.shown[-1]["text/html"]
    assert shell.shown[-1]["text/plain"].endswith(" s")


def test_a_reused_result_shows_no_progress(shell: Shell) -> None:
    short()
    short(quiet=False)
    assert shell.displays == 0


def test_messages_stay_in_the_output_of_a_notebook(shell: Shell) -> None:
    display = NotebookDisplay()
    display.print("<careful>")
    display.log("not shown")
    display.close()
    assert shell.shown[-1]["text/html"].startswith("<div>&lt;careful&gt;</div>")


def test_live_draws_the_runs_so_far_and_removes_the_picture(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradlab.api.progress.DRAW_EVERY", 0.0)
    monkeypatch.setattr("gradlab.api.progress.DRAW_SHARE", 0.0)
    monkeypatch.setattr("gradlab.api.progress.UPDATE_EVERY", 0.0)
    short(quiet=False, live=True)
    assert any("<img" in each["text/html"] for each in shell.shown)
    assert "<img" not in shell.shown[-1]["text/html"]


def test_elsewhere_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    short(quiet=False, live=True)
    assert capsys.readouterr().err.splitlines() == ["1/2 zero_grad seed 42: done", "2/2 no_zero_grad seed 42: done"]


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradlab.api import progress
    from gradlab.terminal.progress import ProgressBar

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    display = progress.place_display()
    display.close()
    assert isinstance(display, ProgressBar)
