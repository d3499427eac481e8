"""What a sweep measures besides losses of steps: evaluations, and the loss over the training set."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import gradlab
from gradlab import runs, store
from gradlab import sweeps as sweep
from gradlab.cli import app
from gradlab.errors import TaskError
from gradlab.experiment import Override, from_task
from gradlab.store.sweeps import block_line
from gradlab.sweeps import grid_of
from gradlab.sweeps.measuring import last_and_best

if TYPE_CHECKING:
    from gradlab.sweeps import SweepResult

MINE = """
import torch
from torch import nn
from gradlab import Task

def data(n, generator):
    return [(torch.randn(3, 2, generator=generator), torch.randn(3, 1, generator=generator)) for _ in range(n)]

def close(model, batch):
    return ((model(batch[0]) - batch[1]).abs() < 1).sum(), len(batch[0])

def worst_error(model, batch):
    return (model(batch[0]) - batch[1]).abs().max()

class Flat(nn.Module):
    def forward(self, x):
        return x

def mine(seed, fails=False, vector=False, eval_fails=False):
    generator = torch.Generator().manual_seed(seed)
    def loss(model, batch):
        if fails and seed == 1 and model.training:
            raise ValueError("not today")
        if eval_fails and not model.training:
            raise ValueError("not in eval mode")
        return nn.functional.mse_loss(model(batch[0]), batch[1])
    metrics = {"close": close, "worst_error": worst_error}
    if vector:
        metrics = {"vector": lambda model, batch: model(batch[0])}
    validation = None if eval_fails else data(3, generator)
    return Task(nn.Linear(2, 1), data(4, generator), loss, validation=validation,
                metrics={} if eval_fails else metrics)
"""
LRS, MODES, SEEDS = (0.01, 0.3, 1e3), ["zero_grad", "halve_grad"], [0, 1]
NAMES = ["validation_loss", "close", "worst_error"]
SWEEP = ["sweep", "--task", "mine.py:mine", "--vary", "lr=0.1,0.2", "-m", "zero_grad", "--seed", "0", "--workers", "1"]


def experiment(steps: int = 26, **more: Any) -> Any:
    Path("mine.py").write_text(MINE)
    values = {"steps": steps, "modes": MODES, "seeds": SEEDS, **more}
    return from_task("mine.py:mine", [Override(tuple(key.split(".")), each, "") for key, each in values.items()])


def swept(engine: str, **more: Any) -> SweepResult:
    grid = grid_of(experiment(**more), ["lr=" + ",".join(map(str, LRS))], engine=engine)
    return sweep.run(grid, Path(engine), workers=1)


def expected_columns(**more: Any) -> dict[str, list[float]]:
    """Return the columns from the evaluations and records of single runs."""
    columns: dict[str, list[float]] = {}
    for lr in LRS:
        outcome = runs.run(experiment(**{"optimizer.lr": lr, **more}), Path(f"single{lr}"))
        for each in outcome.runs:
            folder = store.RunFolder(each.folder)
            logged = [evaluation.values for evaluation in folder.evaluations().evaluations]
            assert len(logged) == 7
            loss = folder.read().training_set_loss
            assert loss is not None
            columns.setdefault("training_set_loss", []).append(loss)
            for name in NAMES:
                values = [one[name] for one in logged]
                best = max(values) if name == "close" else min(values)
                columns.setdefault(f"last_{name}", []).append(values[-1])
                columns.setdefault(f"best_{name}", []).append(best)
    return columns


@pytest.mark.parametrize("engine", ["loop", "ensemble"])
def test_a_sweep_has_the_last_and_best_of_single_runs(engine: str) -> None:
    outcome = swept(engine)
    results = outcome.folder.results()
    wanted = expected_columns()
    assert {block.engine for block in results.blocks} == {engine}
    assert results.measured == list(wanted)
    assert outcome.record.training_set_batches == []
    for name, values in wanted.items():
        found = results.column(name, 12)
        assert found == pytest.approx(values, rel=0 if engine == "loop" else 1e-4, abs=0, nan_ok=True), name


def test_last_and_best_by_hand() -> None:
    values = [
        {"validation_loss": 3.0, "accuracy": 0.5, "top_error": 0.4},
        {"validation_loss": 1.0, "accuracy": 0.8, "top_error": 0.1},
        {"validation_loss": math.nan, "accuracy": 0.7, "top_error": math.inf},
    ]
    found = last_and_best(values)
    assert math.isnan(found.pop("last_validation_loss"))
    assert found == {
        "best_validation_loss": 1.0, "last_accuracy": 0.7, "best_accuracy": 0.8, "last_top_error": math.inf,
        "best_top_error": 0.1,
    }  # fmt: skip
    assert math.isnan(last_and_best([{"accuracy": math.nan}])["best_accuracy"])
    assert last_and_best([]) == {}


@pytest.mark.parametrize("engine", ["loop", "ensemble"])
def test_fewer_batches_are_used_where_all_would_cost_too_much(engine: str) -> None:
    import torch

    outcome = swept(engine, steps=12, seeds=[0], modes=["zero_grad"])
    task = gradlab.tasks.build(gradlab.tasks.find("mine.py:mine"), 0, {})
    optimizer = torch.optim.SGD(task.model.parameters(), lr=LRS[0])
    list(gradlab.train(task, "zero_grad", optimizer, steps=12))
    with torch.no_grad():
        losses = [float(task.loss(task.model, batch)) for batch in task.batches]
    found = outcome.folder.results().column("training_set_loss", 3)
    assert found[0] == pytest.approx((losses[0] + losses[1]) / 2, rel=1e-5)  # 12 steps / 6
    assert outcome.record.training_set_batches == outcome.folder.results().training_set_batches == [2, 4]


def test_fewer_batches_are_reported() -> None:
    Path("mine.py").write_text(MINE)
    answer = CliRunner().invoke(app, [*SWEEP, "--steps", "12"])
    assert "training_set_loss of 2 of 4 batches" in answer.stdout
    assert "training_set_loss is the mean of 2 of 4 batches: all would take more than about 10 %" in answer.stderr
    assert "training_set_loss of 2 of 4 batches" in CliRunner().invoke(app, ["show", "runs"]).stdout
    assert json.loads(CliRunner().invoke(app, ["show", "runs", "--json"]).stdout)["training_set_batches"] == [2, 4]
    assert CliRunner().invoke(app, [*SWEEP, "--steps", "12", "--quiet"]).stderr == ""
    assert "training_set_loss of" not in CliRunner().invoke(app, [*SWEEP, "--steps", "24"]).stdout


@pytest.mark.parametrize("engine", ["loop", "ensemble"])
def test_a_failed_run_has_no_values(engine: str) -> None:
    results = swept(engine, **{"task_options.fails": True}).folder.results()
    assert results.column("status", 12) == ["done", "failed"] * 6
    for name in results.measured:
        assert [each is None for each in results.column(name, 12)] == [False, True] * 6


@pytest.mark.parametrize("engine", ["loop", "ensemble"])
def test_a_loss_that_fails_in_eval_mode_leaves_the_run_done(engine: str) -> None:
    results = swept(engine, **{"task_options.eval_fails": True}).folder.results()
    assert results.column("status", 12) == ["done"] * 12
    assert results.measured == []


@pytest.mark.parametrize("engine", ["loop", "ensemble"])
def test_a_faulty_metric_ends_the_sweep_with_its_name(engine: str) -> None:
    with pytest.raises(TaskError, match="metric 'vector' must return a number or a pair"):
        swept(engine, **{"task_options.vector": True})


def test_results_without_measured_columns_are_read_and_continued() -> None:
    grid = grid_of(experiment(seeds=[0], modes=["zero_grad"]), ["lr=0.1,0.2"], engine="loop")
    folder = sweep.run(grid, workers=1, chunk=1).folder
    (first, second) = folder.results().blocks
    folder.results_file.write_bytes(block_line(first._replace(measured={})) + block_line(second)[:-5])
    outcome = sweep.run(grid, workers=1)
    assert (outcome.cached, outcome.record.status) == (1, "done")
    assert folder.results().blocks == [first._replace(measured={}), second]
    loss = folder.results().column("training_set_loss", 2)
    assert loss == [None, second.measured["training_set_loss"][0]]
    answer = CliRunner().invoke(app, ["plot", str(folder.path)])
    assert "Coloured by last_loss, because 1 of 2 runs have no training_set_loss." in answer.stderr


def test_python_has_the_columns_and_their_colours() -> None:
    found = gradlab.sweep(
        experiment_file(), vary={"lr": [0.1, 0.2, 0.3], "keep": [0.0, 0.5]}, seeds=2, quiet=True, workers=1
    )
    assert list(found.rows[0])[-7:] == [
        "training_set_loss", *(f"{which}_{name}" for name in NAMES for which in ("last", "best"))
    ]  # fmt: skip
    assert list(found.to_pandas().columns) == list(found.rows[0])
    labels = [axes.get_ylabel() for color in (None, "close", "best_loss") for axes in found.plot(color=color).axes]
    assert {"training set loss, median of 2 seeds", "last close, median of 2 seeds"} <= set(labels)
    assert "best loss, median of 2 seeds" in labels
    assert "training_set_loss" in repr(found)
    with pytest.raises(gradlab.GradlabError, match="did you mean 'best_loss'"):
        found.plot(color="bst_loss")


def experiment_file() -> str:
    Path("mine.py").write_text(MINE)
    Path("mine.toml").write_text('task = "mine.py:mine"\nsteps = 26\n')
    return "mine.toml"
