"""Evaluations of runs: what is logged when, resumed bit for bit, expected, exported and shown."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from typer.testing import CliRunner

import gradlab
from gradlab import experiment as experiments
from gradlab import runs, store
from gradlab.cli import app
from gradlab.engines import tensorflow
from gradlab.errors import CheckError, ExperimentError, GradlabError, TaskError
from gradlab.experiment import Experiment, Override
from gradlab.rows import Evaluation, Row
from tests.making import RecordingProgress
from tests.own_code import stop_after

if TYPE_CHECKING:
    from gradlab.analysis.results import ExperimentResult, Result

# w·x with w = 1 fits the targets x of the training batches after no step, so all values can be checked by hand.
TASK = """
import torch
from gradlab import Task

def fit(seed, validation=True, metric="count", goal=0.0):
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    x = torch.ones(1, 1)
    batches = [(x, goal * x), (x, goal * x)]
    def signs(model, batch):
        if metric == "raises" and model.weight < 0.3:
            raise ValueError("no more")
        return {"count": lambda: ((model(batch[0]) > 0.2).sum(), len(batch[0])), "shape": lambda: model(batch[0]),
                "raises": lambda: 1.0}[metric]()
    held_out = [(2 * x, 0 * x), (torch.cat([x, x]), torch.cat([0 * x, x]))] if validation else None
    return Task.supervised(model, batches, torch.nn.MSELoss(), validation=held_out, metrics={"above": signs})

def plain(seed):
    task = fit(seed)
    return Task(task.model, task.batches, task.loss)

def fails_without_graph(seed):
    def loss(model, batch):
        loss = (model(batch[0]) - batch[1]).square().mean()
        torch.autograd.grad(loss, model.weight, retain_graph=True)
        return loss
    return Task(fit(seed).model, fit(seed).batches, loss)

def noisy(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(11, 2, generator=generator)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x[:, :1]), batch_size=2, shuffle=True)
    validation = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x[:, 1:]), batch_size=3, shuffle=True)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Dropout(0.3), torch.nn.Linear(3, 1))
    metrics = {"noise": lambda model, batch: (torch.rand(()), len(batch[0]))}
    return Task.supervised(model, loader, torch.nn.MSELoss(), validation=validation, metrics=metrics)
"""


def chosen(task: str = "fit", **more: Any) -> Experiment:
    """Return an experiment: SGD with lr 0.25 halves w with each step, since the gradient of w² is 2w."""
    Path("mine.py").write_text(TASK)
    values = {"modes": ["zero_grad"], "seeds": [1], "epochs": 2, "optimizer": {"name": "SGD", "lr": 0.25}, **more}
    if "steps" in values:
        del values["epochs"]
    overrides = [Override((key,), value, key) for key, value in values.items()]
    return experiments.from_task(f"mine.py:{task}", overrides)


def only(outcome: ExperimentResult) -> Result:
    (run,) = outcome.runs
    return run


def record_in(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return content


# w after n steps is 2⁻ⁿ: the validation loss is the mean of 4w² and (w² + (1 − w)²) / 2
def values(steps: int) -> dict[str, float]:
    w = 2.0**-steps
    above = (2 * w > 0.2) + 2 * (w > 0.2)
    return {"validation_loss": (4 * w**2 + (w**2 + (1 - w) ** 2) / 2) / 2, "above": above / 3}


def test_a_task_with_validation_is_evaluated_after_each_epoch() -> None:
    run = only(runs.run(chosen()))
    assert run.evaluations == (Evaluation(2, 2, 1, values(2)), Evaluation(4, 4, 2, values(4)))
    lines = (run.folder / "evaluations.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 2, "update": 2, "epoch": 1, **values(2)}, {"step": 4, "update": 4, "epoch": 2, **values(4)}
    ]  # fmt: skip


def test_a_run_may_be_evaluated_every_n_steps_and_at_its_end() -> None:
    run = only(runs.run(chosen(steps=5, evaluate_every=2)))
    assert run.evaluations == (
        Evaluation(2, 2, 1, values(2)), Evaluation(4, 4, 2, values(4)), Evaluation(5, 5, 2, values(5))
    )  # fmt: skip


def test_the_record_has_the_number_and_hash_of_evaluations() -> None:
    run = only(runs.run(chosen()))
    record = record_in(run.folder)
    assert record["evaluations"] == 2
    content = (run.folder / "evaluations.jsonl").read_bytes()
    assert record["evaluations_sha256"] == hashlib.sha256(content).hexdigest()
    assert record["training_set_loss"] == run.training_set_loss == 4.0**-4


def test_without_validation_the_training_batches_are_evaluated() -> None:
    run = only(runs.run(chosen(task_options={"validation": False})))
    assert [each.values for each in run.evaluations] == [
        {"training_set_loss": 4.0**-2, "above": 1.0}, {"training_set_loss": 4.0**-4, "above": 0.0}
    ]  # fmt: skip
    assert run.training_set_loss == 4.0**-4


def test_a_run_without_anything_to_evaluate_has_no_such_file() -> None:
    run = only(runs.run(chosen("plain")))
    assert sorted(file.name for file in run.folder.iterdir()) == ["metrics.jsonl", "run.json"]
    assert (record_in(run.folder)["evaluations"], run.evaluations) == (None, ())
    assert run.training_set_loss == 4.0**-4


def test_evaluate_every_evaluates_any_task() -> None:
    run = only(runs.run(chosen("plain", evaluate_every=3)))
    assert run.evaluations == (
        Evaluation(3, 3, 1, {"training_set_loss": 4.0**-3}), Evaluation(4, 4, 2, {"training_set_loss": 4.0**-4})
    )  # fmt: skip


def test_rows_do_not_depend_on_evaluations_but_identities_do() -> None:
    one, other = (only(runs.run(chosen("noisy", steps=14, **more))) for more in ({}, {"evaluate_every": 4}))
    assert one.rows == other.rows
    assert one.training_set_loss == other.training_set_loss
    assert one.folder != other.folder
    assert "evaluate_every" not in record_in(one.folder)["settings"]
    assert record_in(other.folder)["settings"]["evaluate_every"] == 4


def test_the_training_set_loss_uses_at_most_the_trained_batches() -> None:
    Path("uneven.py").write_text(
        TASK + "def uneven(seed):\n"
        "    ones = torch.ones(1, 1)\n"
        "    return Task(fit(seed).model, [(ones, 0 * ones), (ones, 9 * ones)], fit(seed).loss)\n"
    )
    overrides = [Override(("steps",), 1, "steps"), Override(("modes",), ["zero_grad"], "modes")]
    overrides.append(Override(("optimizer",), {"name": "SGD", "lr": 0.25}, "optimizer"))
    run = only(runs.run(experiments.from_task("uneven.py:uneven", overrides)))
    assert run.training_set_loss == 0.25


def test_a_loss_that_needs_a_graph_leaves_its_set_loss_unknown() -> None:
    progress = RecordingProgress()
    run = only(runs.run(chosen("fails_without_graph"), progress=progress))
    assert (run.status, run.training_set_loss, len(run.rows)) == ("done", None, 4)
    (message,) = progress.messages
    assert message.startswith("zero_grad seed 1: training_set_loss is unknown: RuntimeError: element 0 of tensors")


# Resuming


@pytest.mark.parametrize("every", [None, 1, 4])
def test_a_run_stopped_after_any_step_ends_with_the_same_files(every: int | None) -> None:
    experiment = chosen("noisy", steps=14, **({} if every is None else {"evaluate_every": every}))
    expected = only(runs.run(experiment, Path("undisturbed")))
    for step in range(1, 15):
        stop_after(experiment, step)
        (folder,) = (store.RunFolder(file.parent) for file in Path("runs").glob("*/*/run.json"))
        assert all(each.step < step for each in folder.evaluations().evaluations)
        run = only(runs.run(experiment))
        for name in ("metrics.jsonl", "evaluations.jsonl"):
            assert (run.folder / name).read_bytes() == (expected.folder / name).read_bytes()
        assert run.training_set_loss == expected.training_set_loss
        folder.remove()


def test_a_fresh_run_begins_with_no_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = chosen("noisy", steps=14)
    runs.run(experiment)
    stop, append = runs.Stop(), store.RowLog.append

    def appended(log: store.RowLog, row: Row) -> None:
        append(log, row)
        stop.requested = True

    monkeypatch.setattr(store.RowLog, "append", appended)
    with pytest.raises(runs.StoppedError):
        runs.run(experiment, fresh=True, stop=stop)
    (folder,) = (store.RunFolder(file.parent) for file in Path("runs").glob("*/*/run.json"))
    assert folder.evaluations().evaluations == []


def test_old_evaluations_of_a_plain_task_are_removed() -> None:
    experiment = chosen("plain")
    run = only(runs.run(experiment))
    (run.folder / "evaluations.jsonl").write_text("left by an earlier version\n")
    assert not (only(runs.run(experiment, fresh=True)).folder / "evaluations.jsonl").exists()


@pytest.mark.parametrize("damage", ["removed", "changed", "cut"])
def test_a_run_with_damaged_evaluations_is_retrained(damage: str) -> None:
    run = only(runs.run(chosen()))
    file = run.folder / "evaluations.jsonl"
    content = file.read_text()
    if damage == "removed":
        file.unlink()
    else:
        file.write_text(content.replace('"above":0', '"above":1') if damage == "changed" else content[:-9])
    found = CliRunner().invoke(app, ["show", str(run.folder)])
    why = "does not match its recorded SHA-256" if damage == "changed" else "of 2 evaluations"
    assert why in found.stderr
    again = only(runs.run(chosen()))
    assert (again.cached, file.read_text()) == (False, content)


def test_a_damaged_evaluation_is_named() -> None:
    run = only(runs.run(chosen()))
    file = run.folder / "evaluations.jsonl"
    with file.open("a") as log:
        log.write('{"step":9}\n')
    assert f"{file}:3: not an evaluation: " in CliRunner().invoke(app, ["export", str(run.folder)]).stderr


# Mistakes


def test_a_metric_that_is_no_number_is_found_before_training() -> None:
    with pytest.raises(TaskError, match=r"metric 'above' must return a number .*, got a tensor of shape \(2, 1\)"):
        runs.run(shape_of_two())
    (file,) = Path("runs").glob("*/*/metrics.jsonl")
    assert file.read_bytes() == b""


def shape_of_two() -> Experiment:
    """Return an experiment whose metric has two elements."""
    experiment = chosen(task_options={"metric": "shape"})
    text = Path("mine.py").read_text().replace("x = torch.ones(1, 1)", "x = torch.ones(1, 1)[[0, 0]]")
    Path("mine.py").write_text(text)
    return experiment


def test_a_metric_that_raises_fails_its_run_and_keeps_the_log() -> None:
    run = only(runs.run(chosen(task_options={"metric": "raises"}, evaluate_every=1)))
    assert run.status == "failed"
    assert 'raise ValueError("no more")' in run.error
    assert [each.step for each in run.evaluations] == [1]
    assert len(run.rows) == 2


@pytest.mark.parametrize(
    ("name", "value", "ok"),
    [("above", "< 0.5", True), ("above", ">= 0.1", False), ("validation_loss", "<.22", False),
     ("validation_loss", "> 2e-1", True), ("training_set_loss", "<= 0.00390625", True)],
)  # fmt: skip
def test_values_of_the_last_evaluation_can_be_expected(name: str, value: str, ok: bool) -> None:
    outcome = runs.run(chosen(expect={"zero_grad": {name: value}}))
    (checked,) = outcome.expectations
    got = outcome.runs[0].measured[name]
    assert (checked.key, checked.expected, checked.got, checked.ok) == (name, value, got, ok)
    assert outcome.ok is ok


UNMEASURED = (
    r"^mine.toml:4: expect.halve_grad.abov: task 'mine.py:fit' does not measure it; did you mean 'above'\? "
    r"Measured: validation_loss, above, training_set_loss$"
)


def expecting(name: str) -> Experiment:
    """Return an experiment with two modes that expects this value of the second."""
    Path("mine.py").write_text(TASK)
    modes = 'modes = ["zero_grad", "halve_grad"]'
    Path("mine.toml").write_text(f'task = "mine.py:fit"\n{modes}\n[expect.halve_grad]\n{name} = "> 0"\n')
    return experiments.load("mine.toml")


@pytest.mark.parametrize("engine", ["loop", "ensemble"])
def test_expecting_an_unmeasured_value_fails_before_training(engine: str) -> None:
    with pytest.raises(ExperimentError, match=UNMEASURED):
        runs.run(expecting("abov").model_copy(update={"engine": engine}))
    assert {file.read_bytes() for file in Path("runs").glob("*/*/metrics.jsonl")} == {b""}


def test_expecting_an_unmeasured_value_of_finished_runs_fails() -> None:
    runs.run(expecting("above"))
    with pytest.raises(ExperimentError, match=UNMEASURED):
        runs.run(expecting("abov"))


def test_reused_runs_without_evaluations_are_reported() -> None:
    text = 'task = "mine.py:fit"\nmodes = ["zero_grad"]\n'
    Path("mine.py").write_text(TASK.replace(', validation=held_out, metrics={"above": signs}', ""))
    Path("mine.toml").write_text(text)
    run = only(runs.run(experiments.load("mine.toml")))
    Path("mine.toml").write_text(f'{text}[expect.zero_grad]\nabove = "> 0"\n')
    found = CliRunner().invoke(app, ["run", "mine.toml"])
    assert (found.exit_code, run.evaluations) == (1, ())
    assert "expected zero_grad seed 42: above > 0, got None" in found.stdout
    assert "Reused runs have no evaluations; --fresh adds them." in found.stderr
    outcome = gradlab.run("mine.toml", quiet=True)
    assert "Reused runs have no evaluations; fresh=True adds them." in repr(outcome)
    with pytest.raises(CheckError, match="fresh=True adds them"):
        outcome.check()


def test_nan_fulfils_no_expectation() -> None:
    run = only(runs.run(chosen("plain")))._replace(training_set_loss=math.nan)
    expected = experiments.Expected.model_validate({"training_set_loss": "> 0"})
    from gradlab.analysis.results import check_expectations

    (checked,) = check_expectations({"zero_grad": expected}, [run])
    assert not checked.ok


def test_the_engine_tensorflow_says_that_it_does_not_evaluate(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        __version__ = "2"

    rows = [Row(0, 0, 0, 1.0)]
    monkeypatch.setattr(tensorflow, "start", lambda _: Fake)
    monkeypatch.setattr(tensorflow, "train", lambda *_, **__: iter(rows))
    progress = RecordingProgress()
    run = only(runs.run(chosen(engine="tensorflow", steps=1), progress=progress))
    assert (run.status, run.evaluations, run.training_set_loss) == ("done", (), None)
    assert progress.messages == [
        "zero_grad seed 1: engine 'tensorflow' does not evaluate: no validation loss and no metrics"
    ]


def test_the_engine_tensorflow_takes_no_evaluate_every() -> None:
    with pytest.raises(GradlabError, match="remove evaluate_every = 2"):
        chosen(engine="tensorflow", evaluate_every=2)


# Shown and exported


def test_export_has_the_values_in_the_row_of_their_step() -> None:
    run = only(runs.run(chosen()))
    table = list(csv.reader(CliRunner().invoke(app, ["export", str(run.folder)]).stdout.splitlines()))
    columns = "experiment,mode,seed,step,update,epoch,loss,items,validation_loss,above"
    assert table[0] == columns.split(",")
    assert [line[3:] for line in table[1:]] == [
        ["0", "0", "0", "1.0", "1", "", ""],
        ["1", "1", "0", "0.25", "1", "", ""],
        ["2", "2", "1", "0.0625", "1", repr(values(2)["validation_loss"]), "1.0"],
        ["3", "3", "1", "0.015625", "1", "", ""],
        ["4", "4", "2", "", "", repr(values(4)["validation_loss"]), "0.0"],
    ]


def test_json_has_the_last_evaluation_and_the_training_set_loss() -> None:
    Path("mine.py").write_text(TASK)
    command = ["run", "--task", "mine.py:fit", "-m", "zero_grad", "--epochs", "2", "--lr", "0.25", "--json"]
    (run,) = json.loads(CliRunner().invoke(app, command).stdout)["runs"]
    assert run["last_evaluation"] == {"step": 4, "update": 4, "epoch": 2, **values(4)}
    assert run["training_set_loss"] == 4.0**-4


def test_show_says_what_was_measured_in_a_line() -> None:
    run = only(runs.run(chosen()))
    lines = CliRunner().invoke(app, ["show", str(run.folder)]).stdout.splitlines()
    assert lines[-1] == (
        "zero_grad seed 1: training_set_loss 0.003906; after 4 steps: validation_loss 0.2285, above 0"
    )


def test_plot_draws_a_metric_at_its_places() -> None:
    run = only(runs.run(chosen()))
    found = CliRunner().invoke(app, ["plot", str(run.folder), "--y", "above"])
    assert (found.exit_code, Path(found.stdout.strip()).name) == (0, "above.png")


def test_python_has_evaluations_and_rows_with_their_values() -> None:
    Path("mine.py").write_text(TASK)
    result = gradlab.run(task="mine.py:fit", mode="zero_grad", epochs=2, lr=0.25, quiet=True)
    run = result["zero_grad", 42]
    assert run.evaluations == [Evaluation(2, 2, 1, values(2)), Evaluation(4, 4, 2, values(4))]
    assert run.training_set_loss == 4.0**-4
    assert run.measured == {"training_set_loss": 4.0**-4, **values(4)}
    assert [(row["step"], row["loss"], row["validation_loss"]) for row in result.rows] == [
        (0, 1.0, None), (1, 0.25, None), (2, 0.0625, values(2)["validation_loss"]), (3, 0.015625, None),
        (4, None, values(4)["validation_loss"]),
    ]  # fmt: skip
    figure = result.plot(y="validation_loss", x="step")
    assert figure.axes[0].get_ylabel() == "validation loss"


def test_pandas_has_the_values_of_evaluations() -> None:
    pytest.importorskip("pandas")
    Path("mine.py").write_text(TASK)
    frame = gradlab.run(task="mine.py:fit", mode="zero_grad", epochs=2, lr=0.25, quiet=True).to_pandas()
    assert frame["validation_loss"].dropna().tolist() == [values(2)["validation_loss"], values(4)["validation_loss"]]
    assert frame["loss"].dtype == frame["validation_loss"].dtype == float
    by_mode = frame.pivot(index="step", columns="mode", values="loss")  # steps are unique
    assert by_mode["zero_grad"].dropna().tolist() == [1, 0.25, 0.0625, 0.015625]


def test_check_raises_for_a_metric_below_its_bound() -> None:
    Path("mine.py").write_text(TASK)
    result = gradlab.run(
        task="mine.py:fit", mode="zero_grad", epochs=2, lr=0.25, quiet=True, expect={"zero_grad": {"above": "> 0.9"}}
    )
    with pytest.raises(CheckError, match=r"expected zero_grad seed 42: above > 0\.9, got 0\.0"):
        result.check()


def test_the_trained_model_is_left_in_train_mode_with_its_weight() -> None:
    Path("mine.py").write_text(TASK)
    model = gradlab.run(task="mine.py:fit", mode="zero_grad", epochs=2, lr=0.25, quiet=True)["zero_grad", 42].model
    assert model is not None
    assert model.training
    assert torch.equal(model.weight.detach(), torch.tensor([[2.0**-4]]))  # type: ignore[operator]  # a Linear
