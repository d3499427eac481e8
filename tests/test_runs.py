"""Runs: what is done is kept, what is not is trained, and a record says how each run ended."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from gradlab import experiment as experiments
from gradlab import runs, store, tasks
from gradlab.analysis import groups, results
from gradlab.errors import (
    ExperimentError,
    GradlabError,
    ModeError,
    OptimizerError,
    StoreError,
    TaskError,
    UnfairTaskError,
)
from gradlab.experiment import Experiment, Override
from gradlab.runs import experiment_runs
from gradlab.tasks import Task

if TYPE_CHECKING:
    from gradlab.analysis.results import ExperimentResult, Result

MODES = ["zero_grad", "no_zero_grad", "accumulate:4"]

OWN = """
import torch
from gradlab import Task

def own(seed: int, width: int = 2) -> Task:
    model = torch.nn.Linear(width, 1)
    batches = [(torch.randn(3, width), torch.randn(3, 1)) for _ in range(4)]
    {inside}
    return Task.supervised(model, batches, {criterion})
"""


def line(*, modes: list[str] | None = None, seeds: list[int] | None = None, **more: Any) -> Experiment:
    """Return a built-in experiment of ten steps in two epochs."""
    values: dict[str, Any] = {"modes": modes or MODES, "seeds": seeds or [1], "epochs": 2, **more}
    options = {"samples": 10, "batch_size": 2}
    overrides = [Override((key,), value, key) for key, value in {"task_options": options, **values}.items()]
    return experiments.from_task("noisy_line", overrides)


def own(inside: str = "", criterion: str = "torch.nn.MSELoss()", modes: list[str] | None = None) -> Experiment:
    """Return an experiment on a task of the user's own, written to mine.py."""
    Path("mine.py").write_text(OWN.format(inside=inside, criterion=criterion))
    values = {"modes": modes or ["zero_grad"], "epochs": 2}
    return experiments.from_task("mine.py:own", [Override((key,), value, key) for key, value in values.items()])


def cached(outcome: ExperimentResult) -> list[bool]:
    return [run.cached for run in outcome.runs]


def record_of(result: Result) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((result.folder / "run.json").read_text())
    return content


def only_record() -> dict[str, Any]:
    (file,) = Path("runs").glob("*/*/run.json")
    content: dict[str, Any] = json.loads(file.read_text())
    return content


class EventLog(runs.Progress):
    """Records all events in their order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []

    def on_start(self, title: str, runs: int, steps: int | None = None, *, done_steps: int = 0, **_: Any) -> None:
        self.events.append((f"start {title}", steps if done_steps == 0 else (steps, done_steps)))

    def on_message(self, text: str) -> None:
        self.events.append(("message", text))

    def on_progress(self, steps: int, done_runs: float = 0.0) -> None:
        self.events.append(("progress", steps))

    def on_end(self, result: Result) -> None:
        self.events.append((f"end {result.mode}", result.status))


# What comes of a run


def test_each_mode_and_seed_is_a_run_modes_first() -> None:
    outcome = runs.run(line(modes=["zero_grad", "halve_grad"], seeds=[3, 1]))
    assert [(run.mode, run.seed) for run in outcome.runs] == [
        ("zero_grad", 3), ("zero_grad", 1), ("halve_grad", 3), ("halve_grad", 1)
    ]  # fmt: skip


def test_steps_and_updates_of_each_mode_are_counted() -> None:
    outcome = runs.run(line())
    assert [(run.steps, run.updates) for run in outcome.runs] == [(10, 10), (10, 10), (10, 4)]


def test_a_run_leaves_its_record_and_its_rows_and_nothing_else() -> None:
    outcome = runs.run(line(modes=["zero_grad"]))
    folder = outcome.runs[0].folder
    assert folder.parent == Path("runs/noisy_line")
    assert sorted(file.name for file in folder.iterdir()) == ["metrics.jsonl", "run.json"]


def test_the_record_of_a_run_says_what_it_was() -> None:
    found = record_of(runs.run(line(modes=["halve_grad"], seeds=[7])).runs[0])
    assert (found["experiment"], found["mode"], found["seed"], found["status"]) == (
        "noisy_line", "halve_grad", 7, "done"
    )  # fmt: skip
    assert found["rows"] == 10
    assert found["seconds"] > 0
    assert found["settings"]["optimizer"] == {"name": "SGD", "lr": 0.01}
    assert found["settings"]["threads"] == 1
    assert set(found["versions"]) == {"gradlab", "torch", "python"}


def test_all_modes_of_a_seed_record_the_same_start() -> None:
    records = [record_of(run) for run in runs.run(line(seeds=[1, 2])).runs]
    starts = {seed: {(each["weights"], each["first_batch"]) for each in records if each["seed"] == seed}
              for seed in (1, 2)}  # fmt: skip
    assert all(len(found) == 1 for found in starts.values())
    assert starts[1] != starts[2]
    assert all(len(digest) == 64 for found in starts.values() for pair in found for digest in pair)


def test_two_trainings_give_the_same_bytes_of_rows() -> None:
    one, other = (
        [(run.folder / "metrics.jsonl").read_bytes() for run in runs.run(line(), Path(name)).runs] for name in "ab"
    )
    assert len(one) == 3
    assert one == other


# Kept or trained again


def test_a_run_that_is_done_is_kept_the_second_time() -> None:
    first, second = runs.run(line()), runs.run(line())
    assert (cached(first), cached(second)) == ([False] * 3, [True] * 3)
    assert [run.rows for run in first.runs] == [run.rows for run in second.runs]


def test_a_run_that_is_kept_leaves_its_files_alone() -> None:
    folder = runs.run(line(modes=["zero_grad"])).runs[0].folder
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()}
    runs.run(line(modes=["zero_grad"]))
    assert {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()} == before


def test_fresh_trains_again_what_is_done() -> None:
    runs.run(line())
    assert cached(runs.run(line(), fresh=True)) == [False] * 3


@pytest.mark.parametrize("status", ["running", "interrupted", "failed", "unheard of"])
def test_a_run_whose_status_is_not_done_is_trained_again(status: str) -> None:
    run = runs.run(line()).runs[1]
    (run.folder / "run.json").write_text(json.dumps(record_of(run) | {"status": status}))
    again = runs.run(line())
    assert cached(again) == [True, False, True]
    assert record_of(again.runs[1])["status"] == "done"


def test_a_run_that_lost_a_row_is_trained_again() -> None:
    run = runs.run(line()).runs[0]
    rows = run.folder / "metrics.jsonl"
    whole = rows.read_bytes()
    rows.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    assert cached(runs.run(line())) == [False, True, True]
    assert rows.read_bytes() == whole


def test_a_run_whose_last_row_is_torn_is_trained_again() -> None:
    run = runs.run(line()).runs[0]
    rows = run.folder / "metrics.jsonl"
    rows.write_bytes(rows.read_bytes()[:-1])
    assert cached(runs.run(line())) == [False, True, True]


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl"])
@pytest.mark.parametrize("content", ["", "}{\n", None], ids=["empty", "garbage", "gone"])
def test_a_run_with_a_damaged_file_is_trained_again(name: str, content: str | None) -> None:
    file = runs.run(line()).runs[2].folder / name
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    assert cached(runs.run(line())) == [True, True, False]


def test_a_run_with_edited_settings_is_retrained() -> None:
    run = runs.run(line()).runs[0]
    found = record_of(run)
    (run.folder / "run.json").write_text(json.dumps(found | {"settings": found["settings"] | {"epochs": 3}}))
    assert cached(runs.run(line())) == [False, True, True]


@pytest.mark.parametrize(
    "change", [{"seeds": [2]}, {"epochs": 3}, {"optimizer": {"lr": 0.02}}, {"optimizer": {"name": "Adam"}}]
)
def test_a_run_with_other_settings_is_another_run(change: dict[str, Any]) -> None:
    runs.run(line())
    assert cached(runs.run(line(**change))) == [False] * 3
    assert len(list(Path("runs/noisy_line").glob("*/run.json"))) == 6


def test_a_run_of_a_task_whose_source_changed_is_trained_again() -> None:
    assert cached(runs.run(own())) == [False]
    assert cached(runs.run(own())) == [True]
    assert cached(runs.run(own(inside="pass"))) == [False]


def test_a_changed_task_is_trained_from_its_new_source() -> None:
    before = runs.run(own()).runs[0]
    after = runs.run(own(inside="torch.nn.init.zeros_(model.weight)")).runs[0]
    assert record_of(before)["weights"] != record_of(after)["weights"]


def test_only_what_is_new_is_trained_when_a_mode_is_added() -> None:
    runs.run(line(modes=["zero_grad", "halve_grad"]))
    assert cached(runs.run(line(modes=["zero_grad", "no_zero_grad", "halve_grad"]))) == [True, False, True]


def test_an_experiment_shows_all_runs_of_its_last_settings() -> None:
    runs.run(line(modes=["zero_grad"]))
    runs.run(line(modes=["zero_grad"], seeds=[7]))
    last = runs.run(line(modes=["halve_grad"]))
    found = [(run.read().mode, run.read().seed) for run in groups.group_at(last.folder).runs]
    assert found == [("zero_grad", 1), ("zero_grad", 7), ("halve_grad", 1)]


def test_runs_of_other_settings_do_not_stand_for_the_experiment() -> None:
    runs.run(line(modes=["zero_grad"], epochs=3))
    last = runs.run(line(modes=["halve_grad"]))
    assert [run.read().mode for run in groups.group_at(last.folder).runs] == ["halve_grad"]


# Runs that do not end well

RAISES = "(lambda prediction, target: 1 / 0)"
RAISES_IN_STEP_2 = "(lambda prediction, target, seen=[]: (seen.append(1), 1 / (len(seen) < 3) * prediction.mean())[1])"


def test_a_task_that_raises_fails_its_run() -> None:
    outcome = runs.run(own(criterion=RAISES))
    assert [run.status for run in outcome.runs] == ["failed"]
    assert not outcome.ok


def test_the_error_of_a_failed_run_shows_only_user_frames() -> None:
    error = runs.run(own(criterion=RAISES)).runs[0].error
    assert error.endswith("ZeroDivisionError: division by zero")
    assert "mine.py" in error
    assert "1 / 0" in error
    assert "gradlab/" not in error.replace(str(Path.cwd()), "")


def test_rows_before_the_failure_are_kept() -> None:
    assert [row.step for row in runs.run(own(criterion=RAISES_IN_STEP_2)).runs[0].rows] == [0, 1]


def test_runs_go_on_when_one_fails() -> None:
    once = "Path('been').exists() or (Path('been').touch(), 1 / 0)"
    criterion = f"(lambda prediction, target: (prediction.mean(), {once})[0])"
    Path("mine.py").write_text("from pathlib import Path\n" + OWN.format(inside="", criterion=criterion))
    overrides = [Override(("modes",), ["zero_grad", "halve_grad"], ""), Override(("steps",), 2, "")]
    outcome = runs.run(experiments.from_task("mine.py:own", overrides))
    assert [(run.mode, run.status, run.steps) for run in outcome.runs] == [
        ("zero_grad", "failed", 0), ("halve_grad", "done", 2)
    ]  # fmt: skip
    assert not outcome.ok


def test_a_failed_run_is_trained_again_the_next_time() -> None:
    runs.run(own(criterion=RAISES))
    assert cached(runs.run(own(criterion=RAISES))) == [False]


def test_a_fixable_fault_is_raised_and_recorded_as_failed() -> None:
    with pytest.raises(TaskError, match="must be a scalar tensor"):
        runs.run(own(criterion="torch.nn.MSELoss(reduction='none')"))
    assert only_record()["status"] == "failed"
    assert "must be a scalar tensor" in only_record()["error"]


def test_a_value_that_torch_refuses_leaves_nothing_behind() -> None:
    with pytest.raises(OptimizerError, match="momentum"):
        runs.run(line(modes=["zero_grad"], optimizer={"lr": 0.1, "momentum": -1.0}))
    assert not list(Path("runs").iterdir())


def test_a_schedule_lasts_as_many_updates_as_the_mode_takes() -> None:
    outcome = runs.run(line(modes=["accumulate:3"], schedule="linear"))
    task = tasks.build(tasks.find("noisy_line"), 1, {"samples": 10, "batch_size": 2})
    sgd = torch.optim.SGD(task.model.parameters(), 0.01)
    falling = torch.optim.lr_scheduler.LambdaLR(sgd, lambda update: 1 - update / 4)
    losses = []
    for batches in (list(task.batches), list(task.batches)):  # two epochs of five batches, in windows of three and two
        for window in (batches[:3], batches[3:]):
            for batch in window:
                loss = task.loss(task.model, batch)
                (loss / len(window)).backward()
                losses.append(loss.item())
            sgd.step()
            falling.step()
            sgd.zero_grad()
    assert [row.loss for row in outcome.runs[0].rows] == losses


def test_a_task_that_does_not_import_leaves_nothing_behind() -> None:
    wrong = own()
    Path("mine.py").write_text("1 / 0")
    with pytest.raises(TaskError, match="cannot be imported"):
        runs.run(wrong)
    assert not list(Path("runs").iterdir())


def test_a_task_that_exits_fails_its_run() -> None:
    outcome = runs.run(own(inside="raise SystemExit(0)"))
    assert [run.status for run in outcome.runs] == ["failed"]


def test_a_failed_run_has_no_row_of_the_training_before_it() -> None:
    (before,) = runs.run(own()).runs
    assert before.steps
    (after,) = runs.run(own(inside="1 / 0"), fresh=True).runs
    assert (after.status, after.steps, after.verdict) == ("failed", 0, None)


def test_a_window_that_was_not_finished_is_no_update() -> None:
    (run,) = runs.run(own(criterion=RAISES_IN_STEP_2, modes=["accumulate:4"])).runs
    assert (run.status, run.updates) == ("failed", 0)


def test_a_run_that_lacks_rows_is_not_done() -> None:
    (run,) = runs.run(line(modes=["zero_grad"])).runs
    rows = (run.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.folder / "metrics.jsonl").write_text("".join(rows[:-1]))
    found = results.result_of(store.RunFolder(run.folder), cached=True)
    assert (found.status, found.verdict) == ("failed", None)
    assert "has 9 of 10 rows" in found.error


def test_two_processes_do_not_write_one_run() -> None:
    folder = store.RunFolder(Path("a run"))
    folder.make()
    with folder.log(), pytest.raises(StoreError, match="is being written by another gradlab"):
        folder.log()


def test_the_number_of_threads_is_the_experiment_s() -> None:
    runs.run(line(modes=["zero_grad"], threads=2))
    assert torch.get_num_threads() == 2


def test_the_run_trains_on_the_experiment_s_device(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: list[str] = []

    def moved(task: Task, device: str) -> Task:
        devices.append(device)
        return task

    monkeypatch.setattr(Task, "to", moved)
    monkeypatch.setattr(experiment_runs, "prepare", lambda _: None)  # which would look for the device
    runs.run(line(modes=["zero_grad"], device="cuda:1"))
    assert devices == ["cuda:1"]


def test_ctrl_c_marks_the_record_interrupted_and_goes_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        runs.run(own(criterion="(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))"))
    assert only_record()["status"] == "interrupted"


def test_weights_that_do_not_follow_from_the_seed_are_refused() -> None:
    with pytest.raises(UnfairTaskError, match="different initial weights"):
        runs.run(own(inside="import time; torch.nn.init.constant_(model.weight, time.perf_counter_ns() % 1e9)"))
    assert only_record()["status"] == "failed"


def test_batches_that_do_not_follow_from_the_seed_are_refused() -> None:
    with pytest.raises(UnfairTaskError, match="different first batches"):
        runs.run(own(inside="import time; batches[0][0][0, 0] = time.perf_counter_ns() % 1e9"))
    assert only_record()["status"] == "failed"


def test_a_task_that_changes_at_a_later_call_is_refused() -> None:
    inside = "own.calls = getattr(own, 'calls', 0) + 1; torch.nn.init.constant_(model.weight, own.calls // 3)"
    with pytest.raises(UnfairTaskError, match="different initial weights"):
        runs.run(own(inside=inside))


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("tpu9000", "Invalid device string: 'tpu9000'"),
        ("tpu", "torch does not know this device, or was built without support for it"),
        ("xla", "torch does not know this device, or was built without support for it"),
    ],
)
def test_a_missing_device_is_refused_before_a_run_is_made(device: str, reason: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        runs.run(line(device=device))
    assert str(raised.value) == f"device '{device}' is not available: {reason}"
    assert not list(Path("runs").glob("*/*/run.json"))


def test_an_unknown_task_option_is_refused_before_a_run_is_made() -> None:
    experiment = own().model_copy(update={"task_options": {"depth": 3}})
    with pytest.raises(GradlabError, match="unknown option 'depth'"):
        runs.run(experiment)
    assert not list(Path("runs").glob("*/*/run.json"))


def test_an_unwritable_folder_is_refused_before_training() -> None:
    Path("runs").touch()
    log = EventLog()
    with pytest.raises(StoreError, match="cannot be written"):
        runs.run(line(), progress=log)
    assert log.events == []


# Expectations and watching


def test_an_expectation_that_fails_makes_the_outcome_fail() -> None:
    outcome = runs.run(line(expect={"zero_grad": {"steps": 10}, "accumulate:4": {"updates": 10}}))
    assert [(each.mode, each.key, each.got, each.ok) for each in outcome.expectations] == [
        ("zero_grad", "steps", 10, True), ("accumulate:4", "updates", 4, False)
    ]  # fmt: skip
    assert not outcome.ok


def test_expectations_are_checked_for_finished_runs() -> None:
    runs.run(line())
    assert not runs.run(line(expect={"zero_grad": {"steps": 11}})).ok


def test_progress_reports_start_steps_and_end_of_each_run() -> None:
    log = EventLog()
    runs.run(line(modes=["zero_grad", "halve_grad"]), progress=log)
    events = [each for each in log.events if each[0] != "progress"]
    assert events == [
        ("start zero_grad seed 1", 10),
        ("end zero_grad", "done"),
        ("start halve_grad seed 1", 10),
        ("end halve_grad", "done"),
    ]
    assert ("progress", 1) in log.events


def test_progress_reports_the_end_of_reused_runs() -> None:
    runs.run(line(modes=["zero_grad"]))
    log = EventLog()
    runs.run(line(modes=["zero_grad"]), progress=log)
    assert log.events == [("end zero_grad", "done")]


def test_a_finished_run_with_another_start_is_refused() -> None:
    (done,) = runs.run(line(modes=["zero_grad"])).runs
    folder = store.RunFolder(done.folder)
    folder.write(replace(folder.read(), weights="0" * 64))
    with pytest.raises(UnfairTaskError, match=r"started from other weights or batches\n.*--fresh"):
        runs.run(line(modes=["zero_grad", "halve_grad"]))
    assert runs.run(line(modes=["zero_grad", "halve_grad"]), fresh=True).ok


# A mode of one's own

LEAVES = """
def halve(parameters, update):
    for parameter in parameters:
        parameter.grad *= 0.5

def clear(parameters, update):
    assert update == getattr(parameters[0], "seen", -1) + 1, update
    parameters[0].seen = update
    for parameter in parameters:
        parameter.grad = None

def fails(parameters, update):
    if update == 3:
        raise ValueError("enough")

def alone(parameters): ...

def generates(parameters, update):
    for parameter in parameters:
        yield

async def waits(parameters, update): ...

def shortens(parameters, update):
    for parameter in parameters:
        parameter.grad.resize_(0)

def graphs(parameters, update):
    for parameter in parameters:
        parameter.grad.requires_grad_()

def shrinks(parameters, update):
    for parameter in parameters:
        parameter.grad = None
        parameter.data = parameter.data[:0]

number = 7
"""


def leaves(*names: str, **more: Any) -> Experiment:
    """Return an experiment with these modes of mine.py, written anew."""
    Path("mine.py").write_text(LEAVES)
    return line(modes=[f"mine.py:{name}" if "_" not in name and ":" not in name else name for name in names], **more)


def test_an_own_mode_like_a_built_in_leaves_the_same_rows() -> None:
    outcome = runs.run(leaves("halve", "halve_grad", "clear", "zero_grad"))
    halved, ours, cleared, zero = [run.rows for run in outcome.runs]
    assert halved == ours
    assert cleared == zero
    assert halved != cleared


def test_an_own_mode_may_accumulate() -> None:
    outcome = runs.run(leaves("clear,every=4", "accumulate:4"))
    assert [run.mode for run in outcome.runs] == ["mine.py:clear,every=4", "accumulate:4"]
    assert outcome.runs[0].rows == outcome.runs[1].rows


def test_an_edited_own_mode_is_retrained() -> None:
    chosen = leaves("clear")
    runs.run(chosen)
    assert cached(runs.run(leaves("clear"))) == [True]
    Path("mine.py").write_text(LEAVES + "# another thought")
    assert cached(runs.run(line(modes=["mine.py:clear"]))) == [False]


def test_an_own_mode_that_raises_fails_only_its_runs() -> None:
    outcome = runs.run(leaves("fails", "zero_grad"))
    assert [run.status for run in outcome.runs] == ["failed", "done"]
    assert "mine.py" in outcome.runs[0].error
    assert "ValueError: enough" in outcome.runs[0].error
    assert outcome.runs[0].steps == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alone", r"mode 'mine.py:alone' must take the parameters and the update number: def alone\("),
        (
            "generates",
            "mode 'mine.py:generates': generates is a generator function, so calling it does nothing. Remove yield.",
        ),
        ("waits", "mode 'mine.py:waits': waits is a coroutine function, so calling it does nothing. Remove async."),
        ("number", "mode 'mine.py:number': number is an int, not a function"),
        ("nosuch", r"unknown function in .*mine.py: 'nosuch'"),
    ],
)
def test_an_own_mode_that_cannot_be_called_is_refused_at_once(name: str, message: str) -> None:
    with pytest.raises(ModeError, match=message):
        runs.run(leaves("zero_grad", name))
    assert not list(Path("runs").glob("*/*"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shortens", r"left \.grad as torch\.float32 \(0,\) after update 0; it must be torch\.float32 \(1, 1\)"),
        ("graphs", r"left \.grad as torch\.float32 \(1, 1\) with a graph after update 0; it must be"),
        ("shrinks", r"left a parameter as torch\.float32 \(0, 1\) after update 0; it must be torch\.float32 \(1, 1\)"),
    ],
)
def test_an_own_mode_that_leaves_no_gradient_is_named(name: str, message: str) -> None:
    with pytest.raises(ModeError, match=rf"^mode 'mine\.py:{name}' {message}"):
        runs.run(leaves(name))


def test_an_own_mode_is_found_beside_the_experiment_first(folder: Path) -> None:
    (folder / "beside").mkdir()
    (folder / "beside" / "mine.py").write_text(LEAVES)
    (folder / "mine.py").write_text("raise RuntimeError('the other one')")
    (folder / "beside" / "it.toml").write_text('task = "noisy_line"\nmodes = ["mine.py:clear"]\nsteps = 3')
    outcome = runs.run(experiments.load("beside/it.toml"))
    assert [run.status for run in outcome.runs] == ["done"]


# Matched learning rates


def test_with_match_lr_each_mode_trains_at_its_share() -> None:
    matched = runs.run(line(modes=["halve_grad", "zero_grad"], match_lr=True, optimizer={"lr": 0.02}))
    lrs = [record_of(run)["settings"]["optimizer"]["lr"] for run in matched.runs]
    assert lrs == [0.01, 0.02]
    plain = runs.run(line(modes=["halve_grad"], optimizer={"lr": 0.01}), fresh=True)
    assert plain.runs[0].rows == matched.runs[0].rows
    assert plain.runs[0].folder == matched.runs[0].folder


def test_runs_at_matched_learning_rates_stand_for_one_picture() -> None:
    runs.run(line(modes=["zero_grad"], match_lr=True))
    outcome = runs.run(line(modes=["halve_grad"], match_lr=True))
    assert len(groups.newest_group(store.ExperimentFolder(outcome.folder)).runs) == 2
    outcome = runs.run(line(modes=["decay:0.9"]))
    assert (
        len(groups.newest_group(store.ExperimentFolder(outcome.folder)).runs) == 2
    )  # zero_grad is the same with and without


@pytest.mark.parametrize("first", [["no_zero_grad", "zero_grad"], ["zero_grad", "no_zero_grad"]], ids=str)
def test_a_mode_without_matched_lr_hides_no_other_run(first: list[str]) -> None:
    runs.run(line(modes=first))
    outcome = runs.run(line(modes=["halve_grad"], match_lr=True))
    shown = {run.read().mode for run in groups.newest_group(store.ExperimentFolder(outcome.folder)).runs}
    assert shown == {"zero_grad", "halve_grad"}


@pytest.mark.parametrize("mode", ["no_zero_grad", "keep=1.5", "keep=-1", "mine.py:clear"])
def test_match_lr_refuses_a_mode_without_an_effective_lr(mode: str) -> None:
    Path("mine.py").write_text(LEAVES)
    with pytest.raises(ModeError, match="match_lr"):
        line(modes=["zero_grad", mode], match_lr=True)


@pytest.mark.parametrize("raised", ["GeneratorExit", "StopIteration", "SystemExit(0)"])
def test_any_exception_of_a_task_fails_its_run_with_its_line(raised: str) -> None:
    Path("mine.py").write_text(OWN.format(inside="", criterion="fails") + f"\ndef fails(*_):\n    raise {raised}\n")
    values = {"modes": ["zero_grad", "halve_grad"], "epochs": 2}
    chosen = experiments.from_task("mine.py:own", [Override((key,), value, key) for key, value in values.items()])
    outcome = runs.run(chosen)
    assert [run.status for run in outcome.runs] == ["failed", "failed"]
    assert "mine.py" in outcome.runs[0].error


def test_a_forked_child_leaves_the_run_to_its_parent() -> None:
    forked = "__import__('os').fork()"
    chosen = own(criterion=f"(lambda a, b: ({forked} if not hasattr(own, 'forked') else 0, setattr(own, 'forked', 1), "
                 "torch.nn.functional.mse_loss(a, b))[2])")  # fmt: skip
    (run,) = runs.run(chosen).runs
    assert (run.status, run.steps) == ("done", 8)
