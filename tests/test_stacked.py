"""Cells trained as stacks: the same as runs by themselves, planned by measuring, left to the loop where need be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from typer.testing import CliRunner

from gradlab import sweeps as sweep
from gradlab.cli import app
from gradlab.experiment import Override, from_task
from gradlab.sweeps import grid_of, stacked
from tests.making import RecordingProgress

if TYPE_CHECKING:
    from gradlab.engines import ensemble
    from gradlab.sweeps import Grid, SweepResult


def grid(*vary: str, task: str = "noisy_line", engine: str = "ensemble", **more: Any) -> Grid:
    values = {"steps": 60, "seeds": [0, 1], **more}
    made = from_task(task, [Override(tuple(key.split(".")), value, "") for key, value in values.items()])
    return grid_of(made, vary, engine=engine)


def trained(chosen: Grid, name: str = "runs", **more: Any) -> SweepResult:
    return sweep.run(chosen, Path(name), workers=1, **more)


def columns(outcome: SweepResult, *names: str) -> list[list[Any]]:
    results = outcome.folder.results()
    return [results.column(name, outcome.record.runs) for name in names]


@pytest.mark.parametrize(
    ("vary", "more"),
    [
        (["lr=0.01,0.1,30", "keep=0,0.5,1"], {}),
        (
            ["lr=0.01,0.1"],
            {"modes": ["zero_grad", "zero_grad:fill", "no_zero_grad", "accumulate:4", "accumulate:3:sum"]},
        ),
        pytest.param(
            ["batch_size=1,7,40"],
            {"optimizer.name": "Adam", "clip_norm": 0.5, "schedule": "cosine"},
            marks=pytest.mark.slow,
        ),
        (["keep=0,0.5"], {"task": "heads_in_turn", "optimizer.weight_decay": 0.1}),
        pytest.param(
            ["lr=0.01,0.1"],
            {"task": "mixed_lengths", "modes": ["zero_grad", "accumulate:4:sum"]},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["grid", "modes", "adam", "heads", "items"],
)
def test_a_sweep_of_stacks_ends_as_one_of_single_runs(vary: list[str], more: dict[str, Any]) -> None:
    together, alone = trained(grid(*vary, **more)), trained(grid(*vary, engine="loop", **more))
    assert not together.by_loop
    assert {block.engine for block in together.folder.results().blocks} == {"ensemble"}
    for name in ("status", "steps", "verdict"):
        assert columns(together, name) == columns(alone, name)
    for name in ("first_loss", "last_loss", "best_loss"):
        (found,), (expected,) = columns(together, name), columns(alone, name)
        assert found == pytest.approx(
            expected, rel=1e-3, nan_ok=True
        )  # float32, and modes that keep all amplify its rounding


def test_its_results_do_not_depend_on_when_its_cells_are_trained() -> None:
    chosen = grid("lr=0.01,0.1", "keep=0,0.5,1", steps=20)
    found = {tuple(block.run): block for block in trained(chosen, chunk=4).folder.results().blocks}
    assert len(found) == 4
    for cell in reversed(found):
        assert sweep.train_cell(sweep.cell_of(chosen, cell)) == found[cell]


def test_what_cannot_be_stacked_is_trained_by_the_loop() -> None:
    found = trained(grid("lr=0.01,0.1", task="echo", steps=12, modes=["zero_grad"]))
    assert list(found.by_loop.values()) == [4]
    assert {block.engine for block in found.folder.results().blocks} == {"loop"}
    assert {block.why for block in found.folder.results().blocks} == set(found.by_loop)
    told = CliRunner().invoke(
        app, ["sweep", "--task", "echo", "--vary", "lr=0.01,0.1", "--steps", "12", "-m", "zero_grad"]
    )
    assert "trained sequentially with the engine loop: " in told.stderr


def test_the_chunk_size_is_measured_once_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked, "seconds_a_run_step", lambda training: 1e-6 / len(training.stack.members) ** 0.01)
    found = trained(grid("keep=0:1:11", seeds=list(range(4)), steps=3))
    assert found.record.chunk == 16  # of 44; the others gain less than a tenth
    assert {len(block.run) for block in found.folder.results().blocks} == {11}  # a cell a seed
    monkeypatch.setattr(stacked, "planned", lambda *_: pytest.fail("it is measured once"))
    found.folder.results_file.write_bytes(b"")
    assert trained(grid("keep=0:1:11", seeds=list(range(4)), steps=3)).record.chunk == 16


@pytest.mark.parametrize(("eager", "compiled", "pays"), [(1.0, 0.1, True), (1.0, 1.0, False), (1e-9, 1e-10, False)])
def test_a_step_is_compiled_where_that_pays(
    eager: float, compiled: float, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(training: ensemble.StackedTraining) -> float:
        return compiled if training.traced and training.traced.compiled else eager

    monkeypatch.setattr(stacked, "seconds_a_run_step", seconds)
    monkeypatch.setattr(torch, "compile", lambda traced, **_: traced)
    chosen = grid("keep=0:1:5", steps=50)
    found = trained(chosen)
    assert found.record.compiled == pays
    (last,), (expected,) = columns(found, "last_loss"), columns(trained(chosen._replace(engine="loop")), "last_loss")
    assert last == pytest.approx(expected, rel=1e-3)


def test_where_compiling_would_pay_and_cannot_be_had_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler at hand")

    monkeypatch.setattr(torch, "compile", no_compiler)
    monkeypatch.setattr(stacked, "COMPILE_FROM", 0.0)
    # The fault is remembered for a task with these options: no other test has 17 samples.
    more: dict[str, Any] = {"steps": 5, "task_options.samples": 17}
    progress = RecordingProgress()
    found = trained(grid("keep=0,1", **more), progress=progress)
    assert not found.record.compiled
    assert progress.messages == ["training is not compiled, though that would be faster: no compiler at hand"]


def test_the_edge_is_recorded_where_there_is_one() -> None:
    assert trained(grid("keep=0,1", steps=3)).record.sharpness == {}  # the lr does not vary
    matched = {"match_lr": True, "modes": ["zero_grad", "halve_grad"]}
    for more in ({"optimizer.name": "Adam"}, matched):
        assert trained(grid("lr=0.1,0.2", steps=3, **more)).record.sharpness == {}
    edged = trained(grid("lr=0.1,0.2", "keep=0,1", steps=3)).folder
    assert edged.read().sharpness == {"seeds": [0, 1], "eigenvalues": pytest.approx([2.1, 1.8], rel=0.3)}
    edged.write(replace(edged.read(), sharpness=None))  # ended before it was measured
    again = trained(grid("lr=0.1,0.2", "keep=0,1", steps=3))
    assert (again.cached, again.record.sharpness) == (8, edged.read().sharpness)
    assert again.record.sharpness


def test_run_and_sweep_draw_as_well() -> None:
    swept = ["sweep", "--task", "noisy_line", "--vary", "lr=0.1,0.2", "--vary", "keep=0,1", "--steps", "3"]
    for command in (["run", "--steps", "3"], [*swept, "--workers", "1"]):
        done = CliRunner().invoke(app, [*command, "--plot", "it.png", "--plot", "it.svg"])
        assert done.exit_code == 0, done.output
        assert done.stdout.splitlines()[-2:] == ["it.png", "it.svg"]
        assert "To draw: gradlab plot" not in done.stderr
        for name in ("it.png", "it.svg"):
            assert Path(name).stat().st_size > 1000
            Path(name).unlink()
        again = CliRunner().invoke(app, [*command, "--plot", "it.gif"])
        assert again.exit_code == 2
        assert "unknown picture format" in again.stderr


@pytest.mark.parametrize("vary", [["--vary", "steps=5,6"], ["--vary", "batch_size=1,40", "--vary", "lr=0.01,0.1"]])
def test_a_sweep_of_which_there_is_nothing_to_say_is_drawn(vary: list[str]) -> None:
    command = ["sweep", "--task", "noisy_line", "--steps", "5", *vary, "--seed", "1", "-m", "zero_grad"]
    done = CliRunner().invoke(app, [*command, "--workers", "1", "--plot", "it.png"])
    assert done.exit_code == 0, done.output
