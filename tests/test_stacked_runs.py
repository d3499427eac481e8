"""Runs that are trained at once leave what single runs leave, go on where they were, or say why they go one by one."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gradlab import experiment as experiments
from gradlab import modes, optimizers, runs, schedules, store
from gradlab.engines import ensemble
from gradlab.engines.ensemble import Member, SeedTask, StackedTraining
from gradlab.engines.resuming import CannotResumeError
from gradlab.errors import StoreError, TaskError, UnfairTaskError
from gradlab.experiment import Experiment, Override
from gradlab.runs import job, stacked_runs
from gradlab.tasks import global_generators
from tests.making import RecordingProgress
from tests.own_code import stop_after
from tests.table import OPTIMIZERS, each_with_each

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.analysis.results import ExperimentResult
    from gradlab.rows import Row

# Tasks whose batches come from generators of every kind: the global ones must be switched from seed to seed.
TASKS = '''
import random
import numpy as np
import torch
from torch import nn
from gradlab import Task
from gradlab.tasks import Minibatches

def data(n=23):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(n, 4, generator=generator), torch.randn(n, 1, generator=generator)

def net(*inner):
    return nn.Sequential(nn.Linear(4, 6), *inner, nn.Linear(6, 1))

def own_generator(seed):
    return Task.supervised(net(nn.Tanh()), Minibatches(*data(), 4, torch.Generator().manual_seed(seed)), nn.MSELoss())

def global_shuffle(seed):
    loader = torch.utils.data.DataLoader(list(zip(*data())), batch_size=5, shuffle=True)
    return Task.supervised(net(nn.Tanh()), loader, nn.MSELoss())

class Drawn:
    def __init__(self, seed):
        self.numpy, self.python = np.random.default_rng(seed), random.Random(seed)

    def __iter__(self):
        for _ in range(6):
            shift = self.numpy.normal() + self.python.random() + random.random() + np.random.random()
            yield torch.rand(3, 4) + shift, torch.rand(3, 1)

def all_generators(seed):
    return Task.supervised(net(nn.Tanh()), Drawn(seed), nn.MSELoss())

def pairs(seed):
    x, y = data()
    criterion = nn.MSELoss(reduction="sum")
    batches = [(x[:7], y[:7]), (x[7:9], y[7:9]), (x[9:20], y[9:20])]
    return Task(net(nn.Tanh()), batches, lambda model, batch: (criterion(model(batch[0]), batch[1]), len(batch[0])))

def validated(seed):
    """Draw the training and the validation set from the global generator."""
    loaders = [torch.utils.data.DataLoader(list(zip(*data(n))), batch_size=5, shuffle=True) for n in (23, 12)]
    def distance(model, batch):
        return (model(batch[0]) - batch[1]).abs().sum(), len(batch[0])
    return Task.supervised(net(nn.Tanh()), loaders[0], nn.MSELoss(), validation=loaders[1],
                           metrics={"distance": distance})

def of_items(seed):
    """Have a metric that vmap cannot compute."""
    metrics = {"largest": lambda model, batch: model(batch[0]).max().item()}
    return Task.supervised(net(nn.Tanh()), [data(8), data(9), data(5)], nn.MSELoss(), metrics=metrics)

def vector_metric(seed):
    return Task.supervised(net(nn.Tanh()), [data()], nn.MSELoss(), metrics={"own": lambda model, batch: batch})

def in_turn(seed):
    model = nn.ModuleList([nn.Linear(4, 1), nn.Linear(4, 1)])
    batches = [(head, *data(5)) for head in (0, 0, 1, 0, 1)]
    return Task(model, batches, lambda model, batch: nn.functional.mse_loss(model[batch[0]](batch[1]), batch[2]))

def dropout(seed):
    return Task.supervised(net(nn.Dropout(0.5)), [data()], nn.MSELoss())

def statistics(seed):
    return Task.supervised(net(nn.BatchNorm1d(6)), [data()], nn.MSELoss())

def late(seed):
    """Fit for a stack in the first two batches alone."""
    def loss(model, batch):
        found = nn.functional.mse_loss(model(batch[0]), batch[1])
        return found if len(batch[0]) > 5 or found > 0 else 2 * found
    return Task(net(nn.Tanh()), [data(8), data(9), data(5)], loss)

def fails(seed):
    def loss(model, batch):
        return nn.functional.mse_loss(model(batch[0]), batch[1]) / (1 if len(batch[0]) > 5 else 1 // 0)
    return Task(net(nn.Tanh()), [data(8), data(9), data(5)], loss)

def raises(seed):
    raise ValueError("not today")
'''
STEPS = 13


def chosen(task: str, words: list[str], seeds: list[int] | None = None, **more: Any) -> Experiment:
    """Return an experiment on one of the tasks above, or a built-in one, for the engine `ensemble`."""
    Path("mine.py").write_text(TASKS)
    values = {"modes": words, "seeds": seeds or [1, 2], "steps": STEPS, "engine": "ensemble", **more}
    name = task if task in ("echo", "digits", "noisy_line") else f"mine.py:{task}"
    return experiments.from_task(name, [Override((key,), value, key) for key, value in values.items()])


def rows_of(outcome: ExperimentResult) -> list[list[Row]]:
    assert [run.status for run in outcome.runs] == ["done"] * len(outcome.runs)
    return [run.rows for run in outcome.runs]


def ran(experiment: Experiment, out: str = "runs", **more: Any) -> tuple[ExperimentResult, RecordingProgress]:
    progress = RecordingProgress()
    return runs.run(experiment, Path(out), progress=progress, **more), progress


# What comes of runs


def test_stacked_runs_leave_what_single_runs_leave() -> None:
    words, expect = ["zero_grad", "no_zero_grad", "accumulate:4"], {"zero_grad": {"verdict": "falls", "updates": 13}}
    found, progress = ran(chosen("own_generator", words, expect=expect, schedule="linear"))
    expected, _ = ran(chosen("own_generator", words, expect=expect, schedule="linear", engine="loop"), "alone")
    assert progress.starts == [(STEPS, 0, 4), (STEPS, 0, 2)]
    assert progress.messages == []
    assert sorted(progress.ends) == sorted(f"{mode} {seed} done" for mode in words for seed in (1, 2))
    assert found.expectations == expected.expectations
    for one, other in zip(found.runs, expected.runs, strict=True):
        assert one[:6] == other[:6]
        assert [row.loss for row in one.rows] == pytest.approx([row.loss for row in other.rows], rel=1e-4)
        assert [row[:3] + row[4:] for row in one.rows] == [row[:3] + row[4:] for row in other.rows]
        assert sorted(file.name for file in one.folder.iterdir()) == ["metrics.jsonl", "run.json"]
        records = [json.loads((each.folder / "run.json").read_text()) for each in (one, other)]
        for record in records:
            assert record["seconds"] > 0
            for key in ("seconds", "started", "rows_sha256", "identity"):
                record.pop(key)
        assert records[0]["settings"].pop("engine") == "ensemble"
        losses = [record.pop("training_set_loss") for record in records]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
        assert records[0] == records[1]


@pytest.mark.parametrize(
    ("task", "evaluate_every", "names"),
    [
        ("validated", None, ["validation_loss", "distance"]),
        ("validated", 4, ["validation_loss", "distance"]),
        ("of_items", None, ["training_set_loss", "largest"]),
        ("own_generator", 6, ["training_set_loss"]),
    ],
)
def test_stacked_runs_have_the_evaluations_of_single_runs(
    task: str, evaluate_every: int | None, names: list[str]
) -> None:
    words = ["zero_grad", "no_zero_grad"]
    more: dict[str, Any] = {"evaluate_every": evaluate_every} if evaluate_every else {}
    found, progress = ran(chosen(task, words, **more))
    expected, _ = ran(chosen(task, words, engine="loop", **more), "alone")
    assert progress.messages == []
    for one, other in zip(found.runs, expected.runs, strict=True):
        folders = [store.RunFolder(each.folder) for each in (one, other)]
        logged, wanted = (folder.evaluations().evaluations for folder in folders)
        assert [each[:3] for each in logged] == [each[:3] for each in wanted]
        assert len(wanted) == (4 if evaluate_every == 4 else 5 if task == "of_items" else 3)
        for values, others in zip(logged, wanted, strict=True):
            assert list(values.values) == names
            assert values.values == pytest.approx(others.values, rel=1e-4)
        records = [folder.read() for folder in folders]
        assert records[0].evaluations == len(logged)
        assert records[0].training_set_loss == pytest.approx(records[1].training_set_loss, rel=1e-4)
        rows = [each.loss for each in ran(chosen(task, words), "again")[0].runs[0].rows]
        assert rows == [each.loss for each in found.runs[0].rows]


def test_a_faulty_metric_is_reported_as_in_the_loop() -> None:
    with pytest.raises(TaskError, match="metric 'own' must return a number or a pair"):
        ran(chosen("vector_metric", ["zero_grad", "halve_grad"]))


def test_two_trainings_of_one_stack_give_the_same_bytes_of_rows() -> None:
    for out in ("a", "b"):
        ran(chosen("global_shuffle", ["zero_grad", "halve_grad"], clip_norm=0.3), out)
    one, other = (sorted(Path(out).glob("*/*/metrics.jsonl")) for out in ("a", "b"))
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in other]


def test_what_is_done_is_kept_and_what_is_new_joins_in() -> None:
    before, _ = ran(chosen("own_generator", ["zero_grad"]))
    found, progress = ran(chosen("own_generator", ["zero_grad", "halve_grad"]))
    assert [run.cached for run in found.runs] == [True, True, False, False]
    assert rows_of(before) == rows_of(found)[:2]
    assert progress.starts == [(STEPS, 0, 2)]


def test_each_stack_has_one_matched_lr() -> None:
    _, progress = ran(chosen("own_generator", ["zero_grad", "halve_grad", "decay:0.5"], match_lr=True))
    assert [runs for _, _, runs in progress.starts] == [2, 4]


def test_no_more_runs_are_stacked_than_are_wanted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked_runs, "MOST_STACKED", 3)
    _, progress = ran(chosen("own_generator", ["zero_grad", "halve_grad"], [1, 2, 3, 4]))
    assert [runs for _, _, runs in progress.starts] == [3, 3, 2]


def test_stacked_runs_record_the_quadratic_and_check_the_start() -> None:
    task = "noisy_line"
    options: dict[str, Any] = {"task_options": {"samples": 10, "batch_size": 10}}
    found, _ = ran(chosen(task, ["zero_grad"], **options))
    folder = store.RunFolder(found.runs[0].folder)
    assert set(folder.read().quadratic or {}) == {"curvatures", "amplitudes", "floor"}
    folder.write(folder.read().__class__(**{**vars(folder.read()), "weights": "0" * 64}))
    with pytest.raises(UnfairTaskError, match="started from other weights"):
        ran(chosen(task, ["zero_grad", "halve_grad"], **options))


# What cannot be stacked goes one by one, and that is said


@pytest.mark.parametrize(
    ("task", "words", "reason"),
    [
        ("dropout", ["zero_grad", "halve_grad"], "its loss draws random numbers"),
        ("statistics", ["zero_grad", "halve_grad"], "its model writes to its buffers"),
        ("echo", ["zero_grad", "halve_grad"], "its loss keeps a state between batches"),
        ("pairs", ["accumulate:2", "accumulate:3"], "its loss counts items"),
        ("late", ["zero_grad", "halve_grad"], "RuntimeError: "),
        ("own_generator", ["leaving.py:leave"], "its mode is your own function"),
    ],
)
def test_runs_that_cannot_be_stacked_use_the_plain_loop(task: str, words: list[str], reason: str) -> None:
    Path("leaving.py").write_text("def leave(parameters, update): ...\n")
    found, progress = ran(chosen(task, words))
    expected, _ = ran(chosen(task, words, engine="loop"), "alone")
    assert rows_of(found) == rows_of(expected)
    (said,) = progress.messages
    assert said.startswith("trained sequentially by the plain loop: ")
    assert reason in said
    assert (STEPS, 0, 1) in progress.starts


def test_runs_with_geometry_use_the_plain_loop() -> None:
    found, progress = ran(chosen("own_generator", ["halve_grad"], log=["geometry"]))
    expected, _ = ran(chosen("own_generator", ["halve_grad"], log=["geometry"], engine="loop"), "alone")
    assert rows_of(found) == rows_of(expected)
    assert progress.messages == ["trained sequentially by the plain loop: no other engine logs geometry"]
    assert all(row.geometry for run in found.runs for row in run.rows)


def test_an_optimizer_that_looks_at_whole_tensors_is_not_stacked() -> None:
    optimizer = {"name": "Adafactor", "lr": 0.01}
    found, progress = ran(chosen("own_generator", ["zero_grad"], optimizer=optimizer))
    expected, _ = ran(chosen("own_generator", ["zero_grad"], optimizer=optimizer, engine="loop"), "alone")
    assert rows_of(found) == rows_of(expected)
    assert "update of a weight depends on other weights" in progress.messages[0]


def test_a_task_that_fails_in_a_stack_fails_as_in_the_loop() -> None:
    found, progress = ran(chosen("fails", ["zero_grad", "halve_grad"]))
    assert [(run.status, run.steps) for run in found.runs] == [("failed", 2)] * 4
    assert all(run.error.endswith("ZeroDivisionError: integer division or modulo by zero") for run in found.runs)
    assert "ZeroDivisionError" in progress.messages[0]


def test_a_task_that_cannot_be_built_fails_as_in_the_loop() -> None:
    found, _ = ran(chosen("raises", ["zero_grad"]))
    assert [run.error.endswith("ValueError: not today") for run in found.runs] == [True] * 2


def test_a_fault_that_the_user_can_mend_is_raised() -> None:
    experiment = chosen("wrong", ["zero_grad"])
    Path("mine.py").write_text(TASKS + "\ndef wrong(seed):\n    return Task(net(), [data()], lambda m, b: m(b[0]))\n")
    with pytest.raises(TaskError, match="must be a scalar tensor"):
        ran(experiment)
    records = [json.loads(file.read_text()) for file in Path("runs").glob("*/*/run.json")]
    assert [record["status"] for record in records] == ["failed"]


# Going on


def begun(task: str, words: list[str], optimizer: dict[str, Any], saved: list[Any] | None = None) -> StackedTraining:
    """Build a stack of two seeds, from its start or from what was saved of another."""
    scope: dict[str, Any] = {}
    exec(TASKS, scope)  # noqa: S102 - the source above
    seed_tasks = []
    for seed in (1, 2):
        global_generators.seed_everything(seed)
        seed_tasks.append(SeedTask(scope[task](seed)))
    settings = dict(optimizer)
    name = settings.pop("name")
    members = [Member(modes.parse(word), nth) for nth in range(2) for word in words]

    def schedule(made: Any) -> Any:
        return None if name == "vanilla" else schedules.build("cosine", made, {}, STEPS)

    made = StackedTraining(
        seed_tasks, members, lambda parameters: optimizers.build(name, parameters, settings), schedule
    )
    if saved:
        ensemble.restore(saved, made)
    return made


def through_a_file(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    saved = io.BytesIO()
    torch.save(states, saved)
    saved.seek(0)
    found: list[dict[str, Any]] = torch.load(saved, weights_only=True)
    return found


def state_of(training: StackedTraining) -> list[torch.Tensor | None]:
    parameters = [each for group in training.stack.groups for each in group.parameters.values()]
    return [each for parameter in parameters for each in (parameter.detach(), parameter.grad)]


STACKS = [["zero_grad", "zero_grad:fill", "no_zero_grad", "halve_grad"], ["accumulate:4:sum", "keep=0.5,every=4:sum"]]
NAMES = ["global_shuffle", "all_generators", "own_generator", "in_turn", "pairs"]


@pytest.mark.parametrize(("nth", "kind"), each_with_each(range(len(NAMES)), range(len(STACKS))))
def test_a_stack_resumes_exactly_after_every_step(nth: int, kind: int) -> None:
    task, words = NAMES[nth], STACKS[kind]  # all tasks × stacks; over these the optimizers take turns
    name, options = OPTIMIZERS[(nth + 2 * kind) % len(OPTIMIZERS)]
    optimizer = {"name": name, **options}
    undisturbed = begun(task, words, optimizer)
    expected = list(ensemble.train(undisturbed, steps=STEPS, clip_norm=0.5))
    watched = begun(task, words, optimizer)
    for step, _ in enumerate(ensemble.train(watched, steps=STEPS, clip_norm=0.5), 1):
        saved = through_a_file(ensemble.snapshots(watched))
        states = [world.generators.now() for world in watched.seeds]
        random.seed(99)  # nobody else's random numbers may count
        going_on = begun(task, words, optimizer, saved)
        assert [*expected[:step], *ensemble.train(going_on, steps=STEPS, clip_norm=0.5)] == expected
        for one, other in zip(state_of(going_on), state_of(undisturbed), strict=True):
            assert one is other is None or torch.equal(one, other)  # type: ignore[arg-type]  # None is seen to
        for world, state in zip(watched.seeds, states, strict=True):
            world.generators.set(state)
    assert step == STEPS


def test_a_checkpoint_resumes_with_others_or_alone() -> None:
    optimizer = {"name": "Adam", "lr": 0.01}
    words = STACKS[0]
    stopped = begun("in_turn", words, optimizer)
    expected = list(ensemble.train(begun("in_turn", words, optimizer), steps=STEPS))
    for _ in ensemble.train(stopped, steps=7):
        saved = through_a_file(ensemble.snapshots(stopped))
    fewer = begun("in_turn", words[1:], optimizer, [saved[nth] for nth in (1, 2, 3, 5, 6, 7)])
    found = list(ensemble.train(fewer, steps=STEPS))
    assert [losses.losses[0] for losses in found] == pytest.approx([each.losses[1] for each in expected[7:]], rel=1e-5)


def test_runs_at_different_steps_do_not_resume_together() -> None:
    stopped = begun("in_turn", STACKS[0], {"name": "SGD", "lr": 0.1})
    saved = [ensemble.snapshots(stopped) for _ in ensemble.train(stopped, steps=2)]
    with pytest.raises(CannotResumeError, match="its runs are at different steps"):
        begun("in_turn", STACKS[0], {"name": "SGD", "lr": 0.1}, [*saved[0][:4], *saved[1][4:]])


def long(task: str = "global_shuffle", words: list[str] | None = None, **more: Any) -> Experiment:
    values = {"steps": 60, "optimizer": {"name": "Adam", "lr": 0.01}, "seeds": [1, 2, 3], **more}
    return chosen(task, words or ["zero_grad", "no_zero_grad", "halve_grad"], **values)


def stopped(experiment: Experiment, step: int, says: str = "9 stacked runs stopped after") -> list[store.RunFolder]:
    """Train until a stop is requested after this number of steps; return the folders."""
    stop_after(experiment, step, message=f"{says} {step} steps; the same command continues from there")
    folders = [store.RunFolder(file.parent) for file in sorted(Path("runs").glob("*/*/run.json"))]
    assert {folder.read().status for folder in folders} == {"interrupted"}
    return folders


def test_stopped_runs_resume_and_leave_no_checkpoint() -> None:
    expected = rows_of(ran(long(), "undisturbed")[0])
    for step in (5, 31, 59):
        folders = stopped(long(), step)
    found, progress = ran(long())
    assert progress.starts == [(60, 59, 9)]
    assert progress.messages == []
    assert rows_of(found) == expected
    assert {file.name for folder in folders for file in folder.path.iterdir()} == {"metrics.jsonl", "run.json"}


@pytest.mark.parametrize("evaluate_every", [None, 7, 20])
def test_a_resumed_stack_has_the_undisturbed_evaluations(evaluate_every: int | None) -> None:
    more: dict[str, Any] = {"evaluate_every": evaluate_every} if evaluate_every else {}
    experiment = long("validated", **more)

    def logs(out: str) -> dict[str, bytes]:
        return {file.parent.name: file.read_bytes() for file in Path(out).glob("*/*/evaluations.jsonl")}

    ran(experiment, "undisturbed")
    for step in (4, 5, 20, 35):
        stopped(experiment, step)
    _, progress = ran(experiment)
    assert progress.starts == [(60, 35, 9)]
    assert logs("runs") == logs("undisturbed")
    assert {content.count(b"\n") for content in logs("runs").values()} == {{None: 12, 7: 9, 20: 3}[evaluate_every]}


def test_a_stack_resumes_from_the_last_common_checkpoint() -> None:
    expected = rows_of(ran(long(), "undisturbed")[0])
    stopped(long(), 20)
    folders = stopped(long(), 40)
    for folder in folders[:4]:
        folder.checkpoints()[0].unlink()
    found, progress = ran(long())
    assert progress.starts == [(60, 20, 9)]
    assert rows_of(found) == expected


def test_a_stack_starts_anew_where_one_has_no_checkpoint() -> None:
    expected = rows_of(ran(long(), "undisturbed")[0])
    folders = stopped(long(), 20)
    for file in folders[3].checkpoints():
        file.write_bytes(b"")
    found, progress = ran(long())
    assert progress.starts == [(60, 0, 9)]
    assert "no step has a usable checkpoint of every run" in progress.messages[-1]
    assert rows_of(found) == expected


def test_a_stack_starts_anew_where_rows_were_changed() -> None:
    expected = rows_of(ran(long(), "undisturbed")[0])
    folders = stopped(long(), 20)
    lines = folders[-1].rows_file.read_bytes().splitlines(keepends=True)
    folders[-1].rows_file.write_bytes(b"".join([lines[0].replace(b'"loss":', b'"loss":1'), *lines[1:]]))
    found, progress = ran(long())
    assert rows_of(found) == expected
    assert any("differ from those that were logged" in said for said in progress.messages)


def test_a_stack_resumes_when_others_of_it_are_done() -> None:
    expected = rows_of(ran(long(), "undisturbed")[0])
    folders = stopped(long(), 20)
    ran(long(words=["halve_grad"]))
    found, progress = ran(long())
    assert progress.starts == [(60, 20, 6)]
    assert len(folders) == 9
    for rows, wanted in zip(rows_of(found), expected, strict=True):
        assert [row.loss for row in rows] == pytest.approx([row.loss for row in wanted], rel=1e-4)


def test_a_run_started_in_the_plain_loop_resumes_there() -> None:
    experiment = long("late", ["zero_grad"])
    expected = rows_of(ran(experiment, "undisturbed")[0])
    stop, append = runs.Stop(), store.RowLog.append

    def appended(log: store.RowLog, row: Row) -> None:
        append(log, row)
        stop.requested = row.step == 30

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.RowLog, "append", appended)
        with pytest.raises(runs.StoppedError, match="zero_grad seed 1 stopped after 31 steps"):
            runs.run(experiment, Path("runs"), stop=stop)
    found, progress = ran(experiment)
    assert (60, 31, 1) in progress.starts
    assert rows_of(found) == expected


def checkpoints() -> set[Path]:
    return set(Path("runs").glob("*/*/checkpoint-*.pt"))


def killed(work: Callable[[], object], moment: float, stack: int) -> bool:
    """Work in a child, kill it so many seconds after it wrote a checkpoint of a stack; say if it had more to do."""
    before, child = checkpoints(), os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    while not (now := checkpoints()) - before or len({file.parent for file in now}) < stack:
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            return False
        time.sleep(0.001)
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["global_shuffle", "all_generators"])
def test_killed_stacks_end_in_the_rows_of_an_undisturbed_one(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "CHECKPOINT_SPACING", 0)
    experiment = long(task, steps=100, seeds=[1, 2], checkpoint_every=0.05)
    expected = rows_of(ran(experiment, "undisturbed")[0])
    began = time.monotonic()
    runs.run(experiment, Path("undisturbed"), fresh=True)
    lasted = time.monotonic() - began
    moments = random.Random(1)  # noqa: S311 - no secret
    kills = [
        killed(lambda: runs.run(experiment, Path("runs")), lasted * moments.uniform(0, 0.3), len(expected))
        for _ in range(3)
    ]
    found, progress = ran(experiment)
    assert kills[0]
    assert progress.starts == [] or progress.starts[0][1] > 0
    assert rows_of(found) == expected


def test_a_second_writer_of_any_stacked_run_is_refused() -> None:
    experiment = chosen("own_generator", ["zero_grad", "halve_grad"])
    folders = [plan.folder for plan in runs.plan_runs(experiment, store.ExperimentFolder(Path("runs/own_generator")))]
    folders[2].make()
    with folders[2].log(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.locks, "PATIENCE", 0.0)
        with pytest.raises(StoreError, match="is being written by another"):
            ran(experiment)
    assert not any(folder.record_file.exists() for folder in folders)
    assert len(rows_of(ran(experiment)[0])) == len(folders)
