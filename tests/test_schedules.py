"""Schedules: each update has the lr of a formula, and names and options are those of torch."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

import gradlab
from gradlab import optimizers, runs, schedules
from gradlab.errors import GradlabError, OptimizerError
from gradlab.experiment import Override, from_task, identity
from tests.own_code import SOURCE, chosen, continued, rates_of, rows_of, stop_after

NEED_OBJECTS = {"LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau"}
REAL = {
    name: each
    for name, each in vars(lr_scheduler).items()
    if isinstance(each, type) and issubclass(each, lr_scheduler.LRScheduler) and name[0] != "_"
}
NAMES = sorted(set(REAL) - NEED_OBJECTS - {"LRScheduler"})


def sgd(**more: Any) -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5, **more)


# linear and cosine


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_schedule_falls_at_each_update_and_ends_at_0(name: str) -> None:
    optimizer = sgd()
    scheduler = schedules.build(name, optimizer, {}, 8)
    rates = []
    for _ in range(9):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[0] == 0.5
    assert rates[4] == pytest.approx(0.25)
    assert rates[8] == pytest.approx(0, abs=1e-16)
    assert sorted(rates, reverse=True) == rates


def test_a_cosine_schedule_is_that_of_torch() -> None:
    (ours,) = rows_of(chosen(schedule="cosine"))
    (theirs,) = rows_of(chosen(schedule__name="CosineAnnealingLR", schedule__every="update"))
    assert rates_of(ours) == pytest.approx(rates_of(theirs), abs=1e-15)


def test_vanilla_has_no_schedule() -> None:
    vanilla = optimizers.build("vanilla", [torch.nn.Parameter(torch.zeros(1))], {"lr": 0.1})
    with pytest.raises(OptimizerError, match=r"schedule 'linear' needs an optimizer from torch"):
        schedules.build("linear", vanilla, {}, 3)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_settings_with_linear_and_cosine_are_as_before(name: str) -> None:
    made = from_task("noisy_line", [Override(("schedule",), name.upper(), "")])
    found = made.settings(made.parsed_modes[0], 1)
    assert found["schedule"] == name
    assert not {"schedule_source", "optimizer_source"} & set(found)
    table = from_task("noisy_line", [Override(("schedule", "name"), name, "")])
    assert table.settings(table.parsed_modes[0], 1) == found


# The lr of each update, by hand: an update of SGD lowers the loss of the task by its lr


def one_cycle(update: int, updates: int, top: float) -> float:
    """Return the lr of an update: up from top/25 over 30 % of the updates, then down to top/250,000, as cosines."""
    peak = 0.3 * updates - 1
    begin, end, share = (
        (top / 25, top, update / peak)
        if update <= peak
        else (top, top / 25 / 1e4, (update - peak) / (updates - 1 - peak))
    )
    return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2


def test_one_cycle_lasts_as_many_updates_as_the_mode_takes() -> None:
    for mode, updates in (("zero_grad", 20), ("accumulate:2", 12)):  # 5 batches are windows of 2, 2 and 1
        (rows,) = rows_of(chosen(modes=[mode], schedule="OneCycleLR", schedule__cycle_momentum=False))
        expected = [one_cycle(update, updates, 0.5) for update in range(updates - 1)]
        assert rates_of(rows) == pytest.approx(expected, rel=1e-12)


def test_the_peak_of_one_cycle_may_be_given() -> None:
    (rows,) = rows_of(chosen(steps=11, schedule="OneCycleLR", schedule__max_lr=2, schedule__cycle_momentum=False))
    assert rates_of(rows) == pytest.approx([one_cycle(update, 11, 2.0) for update in range(10)], rel=1e-12)


def test_a_short_rise_of_one_cycle_is_trained() -> None:
    cycle = {"schedule": "OneCycleLR", "schedule__pct_start": 0.1, "schedule__cycle_momentum": False}
    (rows,) = rows_of(chosen(**cycle))  # 20 updates: the rise ends at 0.1·20 − 1
    assert rates_of(rows)[:2] == pytest.approx([0.02, 0.5], rel=1e-12)
    with pytest.raises(OptimizerError, match=r"^schedule 'OneCycleLR' over 10 steps: .*division by zero"):
        runs.run(chosen(steps=10, **cycle))  # no step is left for the rise


def test_a_missing_option_is_named_as_the_caller_writes_it() -> None:
    with pytest.raises(GradlabError, match=r"the option step_size: schedule=\{'name': …, 'step_size': …\}"):
        gradlab.run("noisy_line", schedule="StepLR", quiet=True)


def test_one_cycle_turns_the_momentum_of_sgd() -> None:
    (plain,) = rows_of(chosen(schedule="OneCycleLR", schedule__cycle_momentum=False))
    (turned,) = rows_of(chosen(schedule="OneCycleLR"))
    assert rates_of(turned)[0] == rates_of(plain)[0]
    assert rates_of(turned)[1] > 1.5 * rates_of(plain)[1]  # 0.95 × the gradient before is added


def test_a_step_schedule_steps_between_epochs() -> None:
    settings = {"schedule__name": "StepLR", "schedule__step_size": 2, "schedule__gamma": 0.5}
    (rows,) = rows_of(chosen(**settings))
    assert rates_of(rows) == pytest.approx([0.5 * 0.5 ** (step // 5 // 2) for step in range(19)], rel=1e-12)
    (rows,) = rows_of(chosen(modes=["accumulate:2"], **settings))
    assert rates_of(rows) == pytest.approx([0.5 * 0.5 ** (update // 3 // 2) for update in range(11)], rel=1e-12)
    (rows,) = rows_of(chosen(schedule__every="update", **settings))
    assert rates_of(rows) == pytest.approx([0.5 * 0.5 ** (update // 2) for update in range(19)], rel=1e-12)


def test_steps_may_end_training_within_an_epoch() -> None:
    (rows,) = rows_of(chosen(steps=13, schedule="ExponentialLR", schedule__gamma=0.5))
    assert rates_of(rows) == pytest.approx([0.5 * 0.5 ** (step // 5) for step in range(12)], rel=1e-12)


@pytest.mark.parametrize("end", [{"epochs": 3}, {"steps": 12}])
def test_a_cosine_per_epoch_lasts_all_epochs_even_a_part_of_one(end: dict[str, int]) -> None:
    (rows,) = rows_of(chosen(schedule="CosineAnnealingLR", **end))
    expected = [0.25 * (1 + math.cos(math.pi * (step // 5) / 3)) for step in range(len(rows) - 1)]
    assert rates_of(rows) == pytest.approx(expected, rel=1e-12)
    (rows,) = rows_of(chosen(schedule="CosineAnnealingLR", schedule__T_max=6, **end))
    expected = [0.25 * (1 + math.cos(math.pi * (step // 5) / 6)) for step in range(len(rows) - 1)]
    assert rates_of(rows) == pytest.approx(expected, rel=1e-12)


def test_milestones_are_a_list_and_a_cycle_turns_per_update() -> None:
    (rows,) = rows_of(chosen(schedule="MultiStepLR", schedule__milestones=[1, 3]))
    assert rates_of(rows) == pytest.approx([(0.5, 0.05, 0.05, 0.005)[step // 5] for step in range(19)], rel=1e-12)
    cycle = {"schedule__base_lr": 0.1, "schedule__step_size_up": 2, "schedule__cycle_momentum": False}
    (rows,) = rows_of(chosen(schedule="CyclicLR", **cycle))  # between 0.1 and the optimizer's lr
    assert rates_of(rows) == pytest.approx([(0.1, 0.3, 0.5, 0.3)[update % 4] for update in range(19)], rel=1e-12)


def test_batches_without_a_length_suffice_where_no_end_is_needed() -> None:
    unsized = {"task_options": {"sized": False}}
    (rows,) = rows_of(chosen(schedule="ExponentialLR", schedule__gamma=0.5, **unsized))
    assert rates_of(rows) == pytest.approx([0.5 * 0.5 ** (step // 5) for step in range(19)], rel=1e-12)
    (rows,) = rows_of(chosen(schedule="CosineAnnealingLR", **unsized))  # 4 epochs are its end
    assert rates_of(rows)[5] == pytest.approx(0.25 * (1 + math.cos(math.pi / 4)), rel=1e-12)
    with pytest.raises(GradlabError, match=r"schedule 'OneCycleLR' needs the number of batches: give them a len()"):
        runs.run(chosen(schedule="OneCycleLR", **unsized))


def test_your_own_schedule_receives_its_options_and_its_end() -> None:
    (rows,) = rows_of(chosen(schedule__name="mine.py:warmup", schedule__steps=2, epochs=5))
    by_epoch = [0.25, 0.375, 0.5, 0.25, 0.005]
    assert rates_of(rows) == pytest.approx([by_epoch[step // 5] for step in range(24)], rel=1e-12)


# Stacks and resuming

SETTINGS: list[dict[str, Any]] = [
    {"schedule": "OneCycleLR"},
    {"schedule": "CyclicLR", "schedule__base_lr": 0.01, "schedule__step_size_up": 3, "schedule__step_size_down": 2},
    {"schedule": "StepLR", "schedule__step_size": 2},
    {"schedule": "MultiStepLR", "schedule__milestones": [2]},
    {"schedule": "CosineAnnealingWarmRestarts", "schedule__T_0": 3, "schedule__every": "update"},
    {"schedule__name": "mine.py:warmup", "schedule__steps": 1},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("engine", ["loop", "ensemble"])
def test_a_stopped_run_continues_with_the_same_rates(engine: str, settings: dict[str, Any]) -> None:
    words = ["zero_grad", "halve_grad"] if engine == "ensemble" else ["zero_grad"]
    experiment = chosen("net", engine=engine, optimizer__lr=0.1, modes=words, epochs=3, **settings)
    expected = rows_of(experiment, "whole")
    for step in (1, 4, 6, 8, 11):  # an epoch has 4 steps
        stop_after(experiment, step, f"stopped{step}")
        assert continued(experiment, step, f"stopped{step}") == expected


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_stacked_runs_have_the_rates_of_the_loop(settings: dict[str, Any]) -> None:
    more: dict[str, Any] = {"modes": ["zero_grad", "halve_grad", "accumulate:2"], "seeds": [1, 2], "epochs": 3}
    alone = rows_of(chosen("net", optimizer__lr=0.1, **more, **settings), "alone")
    stacked = rows_of(chosen("net", optimizer__lr=0.1, engine="ensemble", **more, **settings), "stacked")
    assert len(alone) == 6
    for one, other in zip(alone, stacked, strict=True):
        assert [row.loss for row in one] == pytest.approx([row.loss for row in other], rel=1e-10)


# Names and options


def test_the_names_are_torchs_without_those_that_need_objects() -> None:
    assert sorted(schedules.names()) == sorted([*NAMES, "linear", "cosine"])


@pytest.mark.parametrize("name", [*NAMES, "linear", "cosine"])
def test_a_name_is_found_however_it_is_written(name: str) -> None:
    assert [schedules.find(each) for each in (name, name.lower(), f" {name} ", "-".join(name))] == [name] * 4


@pytest.mark.parametrize("name", sorted(NEED_OBJECTS))
def test_a_schedule_that_needs_objects_says_what_to_write(name: str) -> None:
    with pytest.raises(OptimizerError, match=rf"schedule '{name}' .*(name it FILE.py:NAME|Try CosineAnnealingLR)$"):
        schedules.find(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_options_are_those_that_the_class_takes(name: str) -> None:
    ends = {"total_steps", "epochs", "steps_per_epoch"} if name == "OneCycleLR" else set()
    ours = {"optimizer", "last_epoch", "scale_fn"} | ends
    (_, fault), *missing = schedules.faults_of_options(name, {"none of them": 1})
    known = str(fault).rpartition("Known: ")[2].split(", ")
    parameters = inspect.signature(REAL[name]).parameters
    assert known == sorted(set(parameters) - ours)
    required = {each.name for each in parameters.values() if each.default is each.empty} - {
        "optimizer",
        "max_lr",
        "T_max",
    }
    assert {option for option, _ in missing} == required


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"schedule": "linaer"}, "unknown schedule 'linaer'; did you mean 'linear'? Known: linear, cosine, ConstantLR"),
    ({"schedule": 3}, "schedule must be a name or a table, got 3"),
    ({"schedule__step_size": 3}, "schedule.name is missing"),
    ({"schedule__nmae": "StepLR"}, "unknown key 'schedule.nmae'; did you mean 'name'?"),
    ({"schedule": "StepLR"}, "schedule 'StepLR' needs the option step_size: --set schedule.step_size=…"),
    ({"schedule": "StepLR", "schedule__stepsize": 3}, "unknown option 'stepsize'; did you mean 'step_size'?"),
    ({"schedule": "StepLR", "schedule__step_size": 1.5}, "option step_size must be an integer, got 1.5"),
    ({"schedule": "StepLR", "schedule__step_size": 1, "schedule__every": "step"}, "'update' or 'epoch', got 'step'"),
    ({"schedule": "MultiStepLR", "schedule__milestones": [1, 0.5]}, "milestones must be a list of integers"),
    ({"schedule": "OneCycleLR", "schedule__total_steps": 9}, "gradlab sets the number of steps. Remove total_steps."),
    ({"schedule": "OneCycleLR", "schedule__anneal_strategy": "sin"}, "anneal_strategy must be cos or linear"),
    ({"schedule": "CyclicLR", "schedule__base_lr": 1, "schedule__scale_fn": 1}, "unknown option 'scale_fn'"),
    ({"schedule": "linear", "schedule__gamma": 1}, "schedule 'linear' takes no options. Remove gamma."),
    ({"schedule": "cosine", "schedule__every": "epoch"}, "schedule 'cosine' steps after every update. Remove every."),
    ({"schedule": "OneCycleLR", "optimizer__name": "vanilla"}, "schedule 'OneCycleLR' needs an optimizer from torch"),
    ({"schedule": "nosuch.py:warmup"}, "schedule 'nosuch.py:warmup': no file nosuch.py"),
    ({"schedule": "mine.py:warmup"}, "schedule 'mine.py:warmup' needs the option steps"),
    ({"schedule": "mine.py:warmup", "schedule__steps": 2, "schedule__total_steps": 9}, "Remove total_steps."),
    (
        {"schedule": "OneCycleLR", "schedule__max_lr": 1, "match_lr": True},
        "match_lr scales only the optimizer's lr. Remove schedule.max_lr or match_lr.",
    ),
]


@pytest.mark.parametrize(("settings", "message"), FAULTS, ids=lambda each: str(each)[:60])
def test_a_mistake_is_found_in_the_experiment(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(GradlabError) as raised:
        chosen(**settings)
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_all_mistakes_of_a_schedule_are_reported_at_once() -> None:
    with pytest.raises(GradlabError) as raised:
        chosen(schedule="StepLR", schedule__gama=1, schedule__every=0, epochs=0)
    assert len(str(raised.value).splitlines()) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"schedule": "OneCycleLR", "schedule__pct_start": 3},
            "schedule 'OneCycleLR': Expected float between 0 and 1",
        ),
        ({"schedule": "CosineAnnealingLR", "schedule__T_max": 0}, "'CosineAnnealingLR': T_max must not be 0$"),
        ({"schedule": "StepLR", "schedule__step_size": 0}, "schedule 'StepLR': step_size must not be 0$"),
        ({"schedule": "mine.py:nosuch"}, r"unknown function in .*mine.py: 'nosuch'"),
        ({"schedule": "mine.py:nothing"}, "returned None; return a scheduler of torch.optim.lr_scheduler"),
        (
            {"schedule": "mine.py:plateau"},
            "returned a ReduceLROnPlateau, whose step needs arguments. gradlab calls",
        ),
        ({"schedule": "mine.py:unsaved"}, r"its state_dict\(\) holds a function as shape, so a run could not resume"),
        ({"schedule": "mine.py:broken"}, r"(?s)schedule 'mine.py:broken': .*zero\n.*mine.py:\d+$"),
        ({"schedule": "OneCycleLR", "optimizer__name": "Adagrad"}, "schedule 'OneCycleLR': optimizer must support"),
    ],
    ids=lambda each: str(each)[:60],
)
def test_what_the_source_does_not_show_is_reported_by_the_run(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptimizerError, match=message):
        runs.run(chosen(**settings))


def test_an_edited_schedule_is_another_run() -> None:
    first = chosen(schedule__name="mine.py:warmup", schedule__steps=2)
    mode = first.parsed_modes[0]
    settings = first.settings(mode, 1)
    assert settings["schedule"] == {"name": "mine.py:warmup", "every": "epoch", "steps": 2.0}
    assert settings["schedule_source"] == settings["task_source"]  # in the same file
    schedule = Override(("schedule",), {"name": "mine.py:warmup", "steps": 2}, "")
    ids = []
    for gamma in ("0.5", "0.25"):
        Path("mine.py").write_text(SOURCE.replace("gamma: float = 0.5", f"gamma: float = {gamma}"))
        made = from_task("noisy_line", [schedule])  # the task is in no file
        ids.append(identity(made.settings(made.parsed_modes[0], 1)))
    assert ids[0] != ids[1]


def test_another_name_drops_the_options_of_the_file() -> None:
    step = [Override(("schedule",), {"name": "StepLR", "step_size": 3}, "")]
    made = from_task("noisy_line", [*step, Override(("schedule", "name"), "cosine", "")])
    assert made.schedule is not None
    assert (made.schedule.name, made.schedule.options) == ("cosine", {})
    made = from_task("noisy_line", [Override(("schedule", "gamma"), 0.5, ""), *step])
    assert made.schedule is not None
    assert (made.schedule.name, made.schedule.options) == ("StepLR", {"step_size": 3, "gamma": 0.5})
