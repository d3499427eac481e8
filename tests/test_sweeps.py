"""Sweeps: what varies, how runs are numbered and cut into cells, and that each ends as it does by itself."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from typer.testing import CliRunner

from gradlab import experiment as experiments
from gradlab import modes, optimizers, runs, store
from gradlab import sweeps as sweep
from gradlab.cli import app
from gradlab.engines import loop
from gradlab.errors import ExperimentError, GradlabError, StoreError, TaskError
from gradlab.experiment import Override, from_task, load
from gradlab.sweeps import cells, grid_of, running
from gradlab.sweeps.measuring import Measured
from gradlab.sweeps.stacked import StackPlan
from gradlab.terminal.sweep_summary import sweep_lines
from tests.making import RecordingProgress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradlab.sweeps import Grid, LoadedCell, SweepResult

LINE = "noisy_line"
QUICK = {"steps": 12, "task_options.samples": 5, "task_options.batch_size": 2}
MINE = """
import os, torch
from pathlib import Path
from gradlab import Task

def mine(seed: int, width: int = 1) -> Task:
    generator = torch.Generator().manual_seed(seed)
    batches = [(torch.randn(3, width, generator=generator), torch.randn(3, 1, generator=generator)) for _ in range(4)]
    model = torch.nn.Linear(width, 1)
    steps = []

    def loss(model, batch):
        steps.append(1)
        {each_step}
        return torch.nn.functional.mse_loss(model(batch[0]), batch[1])

    return Task(model, batches, loss)
"""


def grid(*vary: str, task: str = LINE, **more: Any) -> Grid:
    overrides = {**(QUICK if task == LINE else {"steps": 12}), **more}
    made = from_task(task, [Override(tuple(key.split(".")), value, "") for key, value in overrides.items()])
    return grid_of(made, vary, engine="loop")


def mine(each_step: str = "pass", *vary: str, **more: Any) -> Grid:
    Path("mine.py").write_text(MINE.replace("{each_step}", each_step))
    return grid(*(vary or ("lr=0.01,0.1",)), task="mine.py:mine", **more)


def here(chosen: Grid, **more: Any) -> SweepResult:
    return sweep.run(chosen, workers=1, **more)


def lines(outcome: SweepResult) -> list[bytes]:
    return sorted(outcome.folder.results_file.read_bytes().splitlines())


def values(text: str) -> tuple[Any, ...]:
    key, _, _ = text.partition("=")
    return grid(text, task="digits" if key == "task_options.hidden" else LINE).axes[0].values


# What varies


def test_the_ends_of_a_range_are_exact_and_its_ratios_are_equal() -> None:
    found = values("lr=1e-3:4:33:log")
    assert (found[0], found[-1], len(found)) == (1e-3, 4.0, 33)
    ratios = [after / before for before, after in pairwise(found)]
    assert max(ratios) / min(ratios) == pytest.approx(1, abs=1e-11)  # twelve digits are written


def test_equal_steps_are_the_floats_that_are_nearest() -> None:
    assert values("keep=0:1:33") == tuple(nth / 32 for nth in range(33))
    assert values("keep=-0.5:0.5:11") == (-0.5, -0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


def test_equal_ratios_are_written_short() -> None:
    assert values("lr=1e-4:10:6:log") == (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)


def test_a_range_of_whole_numbers_stays_one_of_them() -> None:
    assert json.dumps(values("batch_size=1:64:7:log")) == "[1, 2, 4, 8, 16, 32, 64]"
    assert json.dumps(values("batch_size=1:40:4")) == "[1, 14, 27, 40]"


def test_values_are_read_as_set_reads_them() -> None:
    assert values("batch_size=1,40") == (1, 40)
    assert values("schedule=linear, cosine") == ("linear", "cosine")
    assert grid("match_lr=true,false", modes=["halve_grad"]).axes[0].values == (True, False)
    assert grid("optimizer.betas=[0.9,0.99],[0.5,0.9]", **{"optimizer.name": "adam"}).axes[0].values == (
        [0.9, 0.99], [0.5, 0.9],
    )  # fmt: skip


def test_short_and_long_names_of_a_key_are_one() -> None:
    for long, short in [("optimizer.lr", "lr"), ("learning_rate", "lr"), ("task_options.batch_size", "batch_size")]:
        assert grid(f"{long}=1,2").axes[0].key == short
    with pytest.raises(ExperimentError, match="--vary lr is given twice"):
        grid("lr=1,2", "optimizer.lr=3,4")


def of_file(text: str, *vary: str) -> Grid:
    Path("mine.toml").write_text(f'task = "noisy_line"\n{text}')
    return grid_of(load("mine.toml"), vary)


def test_a_flag_replaces_the_axis_of_a_file() -> None:
    text = '[vary]\nlr = "1e-3:1:3:log"\nbatch_size = [1, 40]\noptimizer.momentum = [0.0, 0.5]\n'
    found = of_file(text)
    assert {axis.key: axis.values for axis in found.axes} == {
        "lr": (0.001, 0.0316227766017, 1.0), "batch_size": (1, 40), "momentum": (0.0, 0.5),
    }  # fmt: skip
    changed = of_file(text, "optimizer.lr=5,6", "keep=0,1")
    assert [(axis.key, len(axis.values)) for axis in changed.axes] == [
        ("lr", 2), ("batch_size", 2), ("momentum", 2), ("keep", 2),
    ]  # fmt: skip


FAULTS = [
    ("lr", "write --vary KEY=RANGE"),
    ("=1,2", "write --vary KEY=RANGE"),
    ("lr=", "--vary lr has no value"),
    ("lr=1,,2", "--vary lr has an empty value"),
    ("lr=1:2", "is not a range LOW:HIGH:COUNT"),
    ("lr=1:2:3:4", "is not a range LOW:HIGH:COUNT"),
    ("lr=1:2:3:log:5", "is not a range LOW:HIGH:COUNT"),
    ("lr=1:x:3", "is not a range LOW:HIGH:COUNT"),
    ("lr=1:2:1", "COUNT must be from 2"),
    ("lr=1:2:99999999999", "COUNT must be from 2"),
    ("lr=2:1:3", "LOW must be less than HIGH"),
    ("lr=1:1e400:3", "is not a range|both finite"),
    ("lr=1:1e999:3", "both finite"),
    ("keep=0:1:3:log", "a log range needs LOW greater than 0"),
    ("lr=1:1.0000000000000002:9", "LOW and HIGH are too close for 9 different numbers"),
    ("lr=1,1.0", "1.0 is given twice"),
    ("lr=-1,1", "--vary lr must be greater than 0, got -1.0"),
    ("lr=high,1", "--vary lr must be a number, got 'high'"),
    ("keep=a,b", "--vary keep: keep must be a number, got 'a'"),
    ("keep=nan", "--vary keep: mode 'keep=nan': keep must be a finite number"),
    ("every=0,1", "--vary every: .* must be at least 1"),
    ("every=1.5,2", "--vary every: every must be an integer, got 1.5"),
    ("batch_size=0,1", "--vary batch_size: task 'noisy_line': option batch_size must be at least 1, got 0"),
    ("batchsize=1,2", "--vary batchsize: unknown key 'batchsize'"),
    ("optimizer.momentumm=0,1", "unknown option 'momentumm'; did you mean 'momentum'"),
    ("seeds=1,2", "seeds cannot vary; use --seeds N"),
    ("mode=zero_grad,halve_grad", "mode cannot vary; use --mode"),
    ("threads=1,2", "threads cannot vary; it is the same for all runs of a sweep"),
    ("title=a,b", "title cannot vary; it does not affect the runs"),
    ("a..b=1,2", "a..b is not a key of an experiment file"),
    ("lr=1e-3:1:1000001", "COUNT must be from 2"),
]


@pytest.mark.parametrize(("text", "said"), FAULTS, ids=[text for text, _ in FAULTS])
def test_a_fault_of_an_axis_is_told_in_a_line_by_its_flag(text: str, said: str) -> None:
    with pytest.raises(GradlabError, match=said) as raised:
        grid(text)
    assert str(raised.value).startswith("--vary")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[vary]\nlr = "2:1:3"\n', "mine.toml:3: vary.lr = 2:1:3: LOW must be less than HIGH, and both finite"),
        ("[vary]\nlr = 3\n", "mine.toml:3: vary.lr must be a range"),
        ("[vary]\nlr = []\n", "mine.toml:3: vary.lr has no value"),
        ("[vary]\nlr = [1.0, -1.0]\n", "mine.toml:3: vary.lr must be greater than 0, got -1.0"),
        ("[vary]\nkeep = [0, 1]\n[vary.optimizer]\nnope = [1]\n", "mine.toml:5: vary.optimizer.nope: optimizer 'SGD'"),
    ],
)
def test_a_fault_of_a_file_is_told_by_its_line(text: str, said: str) -> None:
    with pytest.raises(GradlabError) as raised:
        of_file(text)
    assert str(raised.value).startswith(said)


def test_all_faulty_axes_are_reported_at_once() -> None:
    with pytest.raises(GradlabError) as raised:
        of_file("[vary]\nlr = 3\nmomentum = []\nevery = [1]\n", "keep=1:0:3")
    assert [line[:20] for line in str(raised.value).splitlines()] == [
        "mine.toml:3: vary.lr",
        "mine.toml:4: vary.mo",
        "--vary keep=1:0:3: L",
    ]
    with pytest.raises(GradlabError) as raised:
        of_file("[vary]\nlr = [-1.0, -2.0]\nkeep = ['x']\n")
    assert str(raised.value).splitlines() == [
        "mine.toml:3: vary.lr must be greater than 0, got -1.0",
        "mine.toml:4: vary.keep: keep must be a number, got 'x'",
    ]


def test_invalid_combinations_are_refused_before_training() -> None:
    with pytest.raises(
        GradlabError, match=r"--vary task and --vary task_options\.loss: task 'noisy_line': unknown op"
    ):
        grid("task=straight_line,noisy_line", "task_options.loss=l1,mse", task="straight_line")


def test_a_grid_without_axes_or_with_too_many_runs_is_refused() -> None:
    with pytest.raises(ExperimentError, match="nothing varies: a sweep needs --vary KEY=RANGE"):
        grid()
    with pytest.raises(ExperimentError, match="1,001,000 runs are too many for one sweep"):
        grid("keep=0:1:1001", seeds=list(range(1000)))


def test_a_sweep_refuses_to_log_geometry() -> None:
    with pytest.raises(
        ExperimentError, match=r"log = \['geometry'\]: a sweep does not log geometry; .*--set log=\[\]"
    ):
        grid("lr=0.1,0.2", log=["geometry"])
    assert grid("lr=0.1,0.2", log=[]).runs > 1


def test_keep_and_every_take_the_place_of_modes() -> None:
    chosen = grid("keep=0,0.5", "every=1,4", seeds=[7])
    assert [chosen.run(nth).mode for nth in range(4)] == [
        modes.rule(keep, every) for keep in (0.0, 0.5) for every in (1, 4)
    ]
    with pytest.raises(ExperimentError, match="--vary keep sets the modes and cannot be combined with --mode"):
        grid_of(from_task(LINE), ["keep=0,1"], overrides=[Override(("modes",), ["zero_grad"], "--mode")])


def test_runs_are_numbered_by_point_then_mode_then_seed() -> None:
    chosen = grid("lr=1,2", "batch_size=1,2,3", modes=["zero_grad", "halve_grad"], seeds=[5, 3])
    by_hand = [
        ((lr, size), modes.parse(mode), seed)
        for lr in (1.0, 2.0)
        for size in (1, 2, 3)
        for mode in ("zero_grad", "halve_grad")
        for seed in (5, 3)
    ]
    assert [tuple(chosen.run(nth)[1:]) for nth in range(chosen.runs)] == by_hand


# Cells


@pytest.mark.parametrize("engine", ["ensemble", "loop"])
@pytest.mark.parametrize("chunk", [1, 3, 4, 7, 100])
def test_each_run_is_in_one_cell_that_shares_a_task_and_every(chunk: int, engine: str) -> None:
    chosen = grid("lr=1,2", "keep=0,0.5,1", "batch_size=1,2", "every=1,2", seeds=[0, 1])._replace(engine=engine)
    found = cells.cells_of(chosen, chunk)
    assert sorted(run for cell in found for run in cell) == list(range(chosen.runs))
    assert found == cells.cells_of(chosen, chunk)
    for cell in found:
        assert len(cell) <= chunk
        members = [chosen.run(run) for run in cell]
        assert len({run.values[2:] for run in members}) == 1
        assert len({run.values[0] for run in members}) == 1 or engine == "ensemble"
        seeds = [run.seed for run in members]
        assert seeds == sorted(seeds)
    sizes = {len(cell) for cell in found}
    assert max(sizes) - min(sizes) <= 1


def test_a_seed_is_split_only_where_it_exceeds_a_cell() -> None:
    chosen = grid("lr=1,2", "keep=0,0.5,1", seeds=[0, 1, 2])._replace(engine="ensemble")
    for chunk, sizes in [(5, [3] * 6), (6, [6] * 3), (11, [6] * 3), (12, [6, 12]), (100, [18])]:
        found = cells.cells_of(chosen, chunk)
        assert [len(cell) for cell in found] == sizes
        assert all(len({chosen.run(run).seed for run in cell}) == max(1, len(cell) // 6) for cell in found)


def test_other_clearing_or_accumulating_is_another_cell() -> None:
    words = ["zero_grad", "halve_grad", "no_zero_grad", "zero_grad:fill", "accumulate:2", "accumulate:2:sum"]
    chosen = grid("lr=0.1,0.2", modes=words, seeds=[1])
    assert [len(cell) for cell in cells.cells_of(chosen._replace(engine="ensemble"), 100)] == [6, 2, 2, 2]
    assert [len(cell) for cell in cells.cells_of(chosen, 100)] == [3, 1, 1, 1] * 2


def test_modes_of_matched_lr_are_stacked_together() -> None:
    chosen = grid("lr=0.1,0.2", modes=["zero_grad", "halve_grad", "accumulate:2"], match_lr=True, seeds=[1])
    assert [len(cell) for cell in cells.cells_of(chosen._replace(engine="ensemble"), 100)] == [4, 2]
    assert [len(cell) for cell in cells.cells_of(chosen, 100)] == [1] * 6


# Runs end as they do by themselves


def summaries(outcome: SweepResult) -> list[tuple[Any, ...]]:
    names = ("status", "verdict", "steps", "first_loss", "last_loss", "best_loss")
    results, total = outcome.folder.results(), outcome.record.runs
    return list(zip(*(results.column(name, total) for name in names), strict=True))


def by_itself(made: experiments.Experiment) -> list[tuple[Any, ...]]:
    return [
        (run.status, run.verdict, run.steps, run.first_loss, run.last_loss, run.best_loss)
        for run in runs.run(made, Path("single")).runs
    ]


def test_each_run_of_a_sweep_ends_as_run_says_it_does() -> None:
    more: dict[str, Any] = {
        "seeds": [0, 3],
        "schedule": "linear",
        "clip_norm": 1e9,
        "modes": ["halve_grad", "accumulate:2:sum"],
    }
    alone = []
    for lr in (0.01, 30.0):
        point = {**QUICK, **more, "optimizer.lr": lr}
        alone += by_itself(from_task(LINE, [Override(tuple(key.split(".")), each, "") for key, each in point.items()]))
    found = summaries(here(grid("lr=0.01,30", **more), chunk=3))
    assert found == alone
    assert {each[1] for each in found} > {"diverges"}


def test_a_keep_of_the_grid_is_the_mode_of_that_keep() -> None:
    found = summaries(here(grid("keep=0,0.5,1.5", "every=1,2", seeds=[2])))
    words = [f"keep={keep},every={every}" for keep in (0, 0.5, 1.5) for every in (1, 2)]
    overrides = [Override(tuple(key.split(".")), each, "") for key, each in {**QUICK, "seeds": [2]}.items()]
    assert found == by_itself(from_task(LINE, [*overrides, Override(("modes",), words, "")]))


def test_cells_of_other_sizes_give_the_same_runs() -> None:
    chosen = grid("keep=0,0.5", "lr=0.1,0.2", seeds=[0, 1, 2])
    one = summaries(here(chosen, chunk=1))
    assert summaries(here(chosen, chunk=100, fresh=True)) == one


def test_a_task_that_raises_fails_its_own_runs_alone() -> None:
    found = here(mine("if len(steps) == 5 and seed == 1: 1 / 0", "lr=0.01,0.1", seeds=[0, 1]))
    results = found.folder.results()
    assert results.column("status", 12) == ["done", "failed"] * 6
    assert results.column("steps", 12) == [12, 4] * 6
    assert results.column("verdict", 12)[1] is None
    assert "ZeroDivisionError" in results.column("error", 12)[1]
    assert (found.failed, found.record.status, found.record.failed) == (6, "done", 6)


def test_a_task_that_is_another_at_each_call_is_refused() -> None:
    unseeded = "generator = torch.Generator(); generator.seed()"
    Path("mine.py").write_text(
        MINE.replace("generator = torch.Generator().manual_seed(seed)", unseeded).replace("{each_step}", "pass")
    )
    with pytest.raises(TaskError, match="is not deterministic: two calls with seed 42 give different first batches"):
        here(grid("lr=1,2", task="mine.py:mine"))
    folder = store.newest_sweep(Path("runs"))
    assert folder
    assert (folder.read().status, folder.read().done) == ("interrupted", 0)


class Step(NamedTuple):
    update: int
    epoch: int
    losses: list[float]
    items: None = None


def in_step(cell: LoadedCell, measured: list[Measured]) -> Iterator[tuple[Step, int | None]]:
    """Train all runs of a cell at once, as an engine that stacks them does, by loops that take turns."""
    each = []
    for mode, seed, experiment in zip(cell.modes, cell.seeds, cell.experiments, strict=True):
        task = cell.build(seed)
        optimizer = optimizers.build("SGD", task.model.parameters(), experiment.optimizer_options(mode))
        each.append(loop.train(task, mode, optimizer, steps=cell.experiment.steps))
    for rows in zip(*each, strict=True):
        yield Step(rows[0].update, rows[0].epoch, [row.loss for row in rows]), None
    measured.append(Measured([{} for _ in cell.seeds], (1, 1)))


@pytest.fixture
def stacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradlab.sweeps.training._stacked_steps", in_step)
    monkeypatch.setattr("gradlab.sweeps.stacked.planned", lambda *_: StackPlan(2))


@pytest.mark.usefixtures("stacked")
def test_a_stacking_engine_gives_the_same_results() -> None:
    chosen = grid("keep=0,0.5,1", "lr=0.1,30", seeds=[0, 1])
    alone = summaries(here(chosen))
    found = here(chosen._replace(engine="ensemble"))
    assert summaries(found) == alone
    assert {block.engine for block in found.folder.results().blocks} == {"ensemble"}
    assert not found.by_loop


@pytest.mark.usefixtures("stacked")
def test_a_failing_stack_falls_back_to_the_loop_and_is_counted() -> None:
    chosen = mine("if len(steps) == 5 and seed == 1: 1 / 0", "keep=0,1", "lr=0.1,0.2", seeds=[0, 1, 2])
    found = here(chosen._replace(engine="ensemble"))
    assert found.folder.results().column("status", 12) == ["done", "failed", "done"] * 4
    assert found.by_loop == {"its task raises ZeroDivisionError": 4}  # the cell of seed 1, at each lr


# What is there is kept


def test_a_sweep_that_is_whole_is_not_trained_again(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = grid("lr=0.1,0.2")
    first = here(chosen)
    monkeypatch.setattr(running, "cells_of", None)
    again = here(chosen)
    assert (first.cached, again.cached, again.record) == (0, 6, first.record)
    assert again.ended == first.ended


def test_fresh_trains_all_again() -> None:
    chosen = grid("lr=0.1,0.2")
    first = here(chosen)
    before = lines(first)
    again = here(chosen, fresh=True)
    assert (again.cached, lines(again)) == (0, before)


class _StopAfter(RecordingProgress):
    """Asks for a stop once so many runs are done."""

    def __init__(self, runs_done: int, stop: runs.Stop) -> None:
        super().__init__()
        self.runs_done, self.stop = runs_done, stop

    def on_start(self, title: str, runs: int, *_: Any, done_runs: int = 0, **__: Any) -> None:
        self.began = runs, done_runs

    def on_progress(self, steps: int, done_runs: float = 0.0) -> None:
        self.stop.requested |= done_runs >= self.runs_done and steps > 0


def stopped(chosen: Grid, after: int, **more: Any) -> str:
    stop = runs.Stop()
    with pytest.raises(runs.StoppedError) as raised:
        here(chosen, stop=stop, progress=_StopAfter(after, stop), **more)
    return str(raised.value)


def test_a_stopped_sweep_resumes_to_the_undisturbed_results() -> None:
    chosen = grid("lr=0.1,0.2,0.3", "keep=0,1", seeds=[0, 1, 2])
    undisturbed = lines(here(chosen, chunk=2))
    told = stopped(chosen, 6, fresh=True, chunk=2)
    assert told == "stopped after 6 of 18 runs; the same command without --fresh continues from there"
    folder = store.newest_sweep(Path("runs"))
    assert folder
    assert (folder.read().status, folder.read().done) == ("interrupted", 6)
    assert stopped(chosen, 10) == "stopped after 10 of 18 runs; the same command continues from there"
    outcome = here(chosen, chunk=5)  # which is of a sweep that begins; this one has its cells
    assert (outcome.cached, outcome.record.status, lines(outcome)) == (10, "done", undisturbed)


def test_results_of_other_versions_are_not_mixed() -> None:
    chosen = grid("lr=0.1,0.2,0.3", seeds=[0, 1, 2])
    stopped(chosen, 4, chunk=2)
    folder = store.newest_sweep(Path("runs"))
    assert folder
    folder.write(replace(folder.read(), versions={"torch": "1.0"}))
    with pytest.raises(
        StoreError, match=r"was started with torch 1\.0; results depend on these versions\n.*--fresh retrains all"
    ):
        here(chosen)
    assert here(chosen, fresh=True).record.status == "done"


def test_a_damaged_block_is_reported_and_its_cell_retrained() -> None:
    chosen = grid("lr=0.1,0.2,0.3", seeds=[0, 1, 2])
    first = here(chosen, chunk=3)
    undisturbed = lines(first)
    file = first.folder.results_file
    file.write_bytes(file.read_bytes().replace(b"done", b"dine", 1))
    progress = _StopAfter(1000, runs.Stop())
    again = here(chosen, progress=progress)
    (said,) = progress.messages
    assert said.startswith(f"{file}:1: damaged line: ")
    assert again.cached == 27 - 3
    assert set(undisturbed) <= set(lines(again))
    assert again.folder.results().column("run", 27) == list(range(27))
    assert here(chosen).cached == 27


def test_the_identity_holds_only_what_decides_the_runs() -> None:
    base = grid("lr=0.1,0.2")
    identity = here(base).record.identity
    keyed: dict[str, Any] = {"optimizer.lr": 7.0}
    same = [grid("lr=0.1,0.2", **keyed), grid("optimizer.lr=0.1,0.2", title="other")]
    assert {experiments.identity(sweep.settings_of(each)) for each in same} == {identity}
    others = [grid("lr=0.1,0.3"), grid("lr=0.1,0.2", seeds=[1]), grid("lr=0.1,0.2", modes=["zero_grad"]),
              grid("lr=0.1,0.2", steps=13), grid("lr=0.1,0.2", match_lr=True, modes=["zero_grad"]),
              base._replace(engine="ensemble")]  # fmt: skip
    assert len({experiments.identity(sweep.settings_of(each)) for each in others} | {identity}) == len(others) + 1


# The command line


def gives(*arguments: str, exit_status: int = 0) -> Any:
    answer = CliRunner().invoke(app, list(arguments), prog_name="gradlab")
    assert answer.exit_code == exit_status, (answer.output, answer.exception)
    return answer


SWEEP = ["sweep", "--task", LINE, "--steps", "12", "--set", "task_options.samples=5", "--workers", "1",
         "--vary", "lr=0.01,30", "--vary", "keep=0,1", "--seeds", "2"]  # fmt: skip


def test_sweep_answers_in_json_what_it_did() -> None:
    first = json.loads(gives(*SWEEP, "--json").stdout)
    again = json.loads(gives(*SWEEP, "--json").stdout)
    assert list(first) == ["folder", "runs", "run_steps_per_second", "cached"]
    assert (first["runs"], first["cached"], again["cached"]) == (8, 0, 8)
    assert first["run_steps_per_second"] == again["run_steps_per_second"] > 0
    assert again["folder"] == first["folder"]


@pytest.mark.parametrize("columns", ["80", "40"])
def test_sweep_says_in_a_few_lines_how_its_runs_ended(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    answer = gives(*SWEEP)
    told = answer.stdout.splitlines()
    assert told[:2] == ["lr 0.01, 30 × keep 0, 1", "2 seeds: 8 runs"]
    assert "diverges 4" in told[2]
    assert told[-1].startswith("results: runs/noisy_line/sweep-")
    assert len(told) <= 6
    assert "To draw: gradlab plot runs/noisy_line/sweep-" in answer.stderr
    assert gives(*SWEEP, "--quiet").stderr == ""


def test_a_sweep_has_a_map_and_no_curves_to_choose() -> None:
    gives(*SWEEP)
    answer = gives("plot", "--y", "loss", exit_status=2)
    assert answer.stderr == "--y draws curves of runs, but this is a sweep, which has a map. Use --color.\n"


ALL_FAIL = [
    "sweep",
    "--task",
    "mine.py:mine",
    "--vary",
    "lr=0.1,0.2",
    "-m",
    "zero_grad",
    "--steps",
    "3",
    "--workers",
    "1",
]


@pytest.mark.parametrize("plot", [[], ["--plot", "loss.png"]], ids=["hint", "plot"])
def test_a_sweep_of_failed_runs_alone_has_no_picture(plot: list[str]) -> None:
    Path("mine.py").write_text(MINE.replace("{each_step}", "1 / 0"))
    answer = gives(*ALL_FAIL, *plot, exit_status=1)
    assert "failed 2" in answer.stdout
    assert "picture" not in answer.stderr
    assert "to draw" not in answer.stderr


def test_a_sweep_without_a_number_hints_at_no_picture() -> None:
    words = ["sweep", "--task", LINE, "--vary", "optimizer.nesterov=false,true", "--set", "momentum=0.5"]
    answer = gives(*words, "-m", "zero_grad", "--steps", "3", "--workers", "1")
    assert "picture" not in answer.stderr


def test_a_sweep_that_cannot_be_drawn_is_not_trained() -> None:
    words = ["sweep", "--task", LINE, "--vary", "schedule=linear,cosine", "--plot", "loss.png"]
    assert "No axis to draw along" in gives(*words, exit_status=2).stderr
    assert not Path("runs").exists()


def test_failed_runs_exit_with_status_1_and_their_traceback() -> None:
    Path("mine.py").write_text(MINE.replace("{each_step}", "if seed == 1: 1 / 0"))
    command = ["sweep", "--task", "mine.py:mine", "--vary", "lr=0.1,0.2", "-m", "zero_grad", "--seeds", "2",
               "--steps", "3", "--workers", "1"]  # fmt: skip
    answer = gives(*command, exit_status=1)
    assert "2 runs failed:\nTraceback (your code):" in answer.stderr
    assert "failed 2" in answer.stdout
    assert json.loads(gives(*command, "--json", exit_status=1).stdout)["failed"] == 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["sweep"], "nothing varies: a sweep needs --vary KEY=RANGE"),
        (["sweep", "--vary", "lr=1,2", "--seeds", "2", "--seed", "3"], "--seeds and --seed exclude each other"),
        (["sweep", "--vary", "keep=0,1", "-m", "zero_grad"], "cannot be combined with --mode;"),
        (["sweep", "--vary", "keep=0,1", "--set", "every=4"], "cannot be combined with --set every;"),
        (["sweep", "--vary", "keep=0,1", "--set", "modes=['zero_grad']"], "cannot be combined with --set modes;"),
        (["sweep", "--vary", "lr=1,2", "--engine", "tensorflow"], "unknown sweep engine 'tensorflow'"),
        (["sweep", "--vary", "lr=1,2", "--workers", "0"], "--workers"),
        (["sweep", "--vary", "optimizer.momentum=0,-1", "--workers", "1"], "Invalid momentum value: -1"),
        (["run", "mine.toml"], "mine.toml:2: experiment 'mine' varies lr: use `gradlab sweep`"),
    ],
)
def test_a_fault_of_the_command_is_told_in_two_lines_at_most(asked: list[str], said: str) -> None:
    Path("mine.toml").write_text('task = "noisy_line"\n[vary]\nlr = [0.1, 0.2]\n')
    answer = gives(*asked, exit_status=2)
    assert said in answer.stderr
    assert len(answer.stderr.splitlines()) <= 2
    assert not list(Path().glob("runs/*"))


def test_a_sweep_of_a_file_is_exported_shown_and_listed() -> None:
    Path("mine.toml").write_text(
        'title = "A map"\ntask = "noisy_line"\nsteps = 6\nmodes = ["zero_grad", "halve_grad"]\nseeds = [3, 1]\n'
        "[vary]\nlr = [0.1, 1e-5]\nmatch_lr = [true, false]\n"
    )
    gives("sweep", "mine.toml", "--workers", "1", "--quiet")
    (folder,) = Path("runs/mine").glob("sweep-*")
    rows = list(csv.DictReader(gives("export", str(folder), "--to", "csv").stdout.splitlines()))
    assert list(rows[0]) == ["lr", "match_lr", "mode", "seed", "status", "verdict", "steps", "first_loss",
                             "last_loss", "best_loss", "training_set_loss"]  # fmt: skip
    told = [(float(row["lr"]), row["match_lr"], row["mode"], int(row["seed"])) for row in rows]
    assert told == list(product([0.1, 1e-5], ["true", "false"], ["zero_grad", "halve_grad"], [3, 1]))
    results = store.SweepFolder(folder).results()
    assert [float(row["last_loss"]) for row in rows] == results.column("last_loss", 16)
    shown = gives("show", str(folder)).stdout
    assert "mine: A map" in shown
    assert "2 modes × 2 seeds: 16 runs" in shown
    assert json.loads(gives("show", "runs", "--json").stdout)["done"] == 16
    assert "16/16" in gives("list").stdout
    (listed,) = json.loads(gives("list", "--json").stdout)["sweeps"]
    assert (listed["status"], listed["runs"], listed["done"]) == ("done", 16, 16)


def test_plot_and_show_default_to_what_was_trained_last() -> None:
    gives(*SWEEP, "--quiet")
    (folder,) = Path("runs/noisy_line").glob("sweep-*")
    for path in (folder, folder.parent, Path("runs")):
        assert store.newest_sweep(path) == store.SweepFolder(folder)
    gives("run", "--task", LINE, "--steps", "2", "--quiet")
    assert store.newest_sweep(Path("runs")) is None
    assert store.newest_sweep(folder) == store.SweepFolder(folder)
    assert "last" in gives("show", "runs").stdout
    answer = gives("export", str(folder), "runs", exit_status=2)
    assert "is a sweep with its own columns. Export it alone." in answer.stderr


def test_a_sweep_that_is_not_whole_says_so_when_it_is_exported() -> None:
    stopped(grid("lr=0.1,0.2,0.3", seeds=[0, 1, 2]), 3, chunk=3)
    answer = gives("export", str(next(Path("runs").glob("*/sweep-*"))))
    assert len(answer.stdout.splitlines()) == 1 + 3
    assert "The sweep is incomplete: interrupted, 24 of 27 runs are missing." in answer.stderr


def test_non_finite_losses_are_exported_as_python_writes_them() -> None:
    outcome = here(mine("return model(batch[0]).mean() * float('nan')", "lr=1,2", modes=["zero_grad"]))
    rows = list(csv.DictReader(gives("export", str(outcome.folder.path)).stdout.splitlines()))
    assert [row["last_loss"] for row in rows] == ["nan", "nan"]
    assert math.isnan(outcome.folder.results().column("best_loss", 2)[0])
    assert outcome.ended == {"diverges": 2}


def test_a_shown_sweep_counts_its_missing_runs() -> None:
    record = here(grid("lr=0.1,0.2", seeds=[0])).record
    told = [line.plain for line in sweep_lines(record, {"falls": 2})]
    assert told[2:4] == ["falls 2", "4 missing"]
