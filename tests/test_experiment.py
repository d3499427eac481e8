"""Experiments: what a file may say, what is answered where it errs, and when two are one."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradlab import experiment as experiments
from gradlab import modes
from gradlab.errors import ExperimentError, GradlabError
from gradlab.experiment import (
    Experiment,
    Override,
    from_task,
    identity,
    inequality_of,
    load,
    locate,
    overrides_of,
    shipped,
)
from gradlab.sweeps import grid_of, settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping

LINE = 'task = "noisy_line"\n'  # the first line of most files below


def write(text: str, file: str = "mine.toml") -> str:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_bytes(text.encode())
    return file


def loaded(text: str, *overrides: Override) -> Experiment:
    return load(write(text), list(overrides))


def complaint(text: str, *overrides: Override) -> str:
    """Return what is said of a file with that text."""
    with pytest.raises(GradlabError) as raised:
        loaded(text, *overrides)
    return str(raised.value)


def set_(text: str) -> Override:
    return Override.parse(text)


def identities(experiment: Experiment) -> list[str]:
    return [identity(experiment.settings(mode, seed)) for mode in experiment.parsed_modes for seed in experiment.seeds]


# What a file may say


def test_a_file_needs_but_a_task() -> None:
    assert loaded(LINE).model_dump(exclude_none=True) == {
        "name": "mine",
        "title": "",
        "task": "noisy_line",
        "task_options": {},
        "modes": ["zero_grad", "no_zero_grad", "halve_grad"],
        "seeds": [42],
        "epochs": 10,
        "engine": "loop",
        "device": "cpu",
        "threads": 1,
        "checkpoint_every": 30.0,
        "match_lr": False,
        "log": [],
        "optimizer": {"name": "SGD", "lr": 0.01},
        "expect": {},
        "vary": {},
    }


def test_all_that_a_file_says_is_in_the_experiment() -> None:
    text = """
        name = "my name"
        title = "A title – with ümlauts"
        task = "Noisy-Line"
        modes = ["Decay:0.90", "accumulate:4:SUM"]
        seeds = [0, 4294967295]
        steps = 7
        device = "cuda:1"
        threads = 3
        checkpoint_every = 0.5
        match_lr = true
        log = ["geometry"]
        [task_options]
        samples = 5
        noise = 0
        [optimizer]
        name = "asgd"
        lr = 1
        t0 = 5
        maximize = true
        [expect."decay:0.9"]
        verdict = "falls"
        steps = 7
        last_loss_below = 2
        epoch_losses = [0.5, 1]
        [vary]
        lr = "1e-3:1:4:log"
        optimizer.momentum = [0, 0.5]
    """
    assert loaded(text).model_dump(exclude_none=True) == {
        "name": "my name",
        "title": "A title – with ümlauts",
        "task": "Noisy-Line",
        "task_options": {"samples": 5, "noise": 0},
        "modes": ["decay:0.9", "accumulate:4:sum"],
        "seeds": [0, 4294967295],
        "steps": 7,
        "engine": "loop",
        "device": "cuda:1",
        "threads": 3,
        "checkpoint_every": 0.5,
        "match_lr": True,
        "log": ["geometry"],
        "optimizer": {"name": "ASGD", "lr": 1.0, "t0": 5, "maximize": True},
        "expect": {"decay:0.9": {"verdict": "falls", "steps": 7, "last_loss_below": 2.0, "epoch_losses": [0.5, 1.0]}},
        "vary": {"lr": "1e-3:1:4:log", "optimizer": {"momentum": [0, 0.5]}},
    }


def test_steps_take_the_place_of_the_ten_epochs() -> None:
    made = loaded(LINE + "steps = 7")
    assert (made.steps, made.epochs) == (7, None)


@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
def test_a_file_may_come_from_any_editor(start: str, end: str) -> None:
    assert loaded(start + f'task = "noisy_line"{end}epochs = 3{end}').epochs == 3


def test_options_of_the_optimizer_are_passed_on_after_lr() -> None:
    assert loaded(LINE + "[optimizer]\nmomentum = 0.5\nnesterov = true").optimizer.options == {
        "lr": 0.01,
        "momentum": 0.5,
        "nesterov": True,
    }


def test_expectations_are_the_claims_that_were_made() -> None:
    expect = loaded(LINE + '[expect.zero-grad]\nverdict = "falls"\nupdates = 3').expect
    assert {mode: each.claims() for mode, each in expect.items()} == {"zero_grad": {"verdict": "falls", "updates": 3}}


def test_values_of_evaluations_are_expected_by_inequalities() -> None:
    text = '[expect.zero_grad]\nupdates = 3\naccuracy = ">= 0.9"\nvalidation_loss = "<.5"'
    claims = {"updates": 3, "accuracy": ">= 0.9", "validation_loss": "<.5"}
    assert loaded(LINE + text).expect["zero_grad"].claims() == claims


@pytest.mark.parametrize(
    ("text", "holds", "fails"),
    [("> 0.9", 0.91, 0.9), (">= 0.9", 0.9, 0.89), ("<1e-3", 0.0009, 0.001), (" <= -.5 ", -0.5, -0.4), ("> +2.", 3, 2)],
)
def test_an_inequality_compares_with_its_bound(text: str, holds: float, fails: float) -> None:
    inequality = inequality_of(text)
    assert inequality is not None
    assert inequality(holds)
    assert not inequality(fails)
    assert not inequality(math.nan)


@pytest.mark.parametrize("text", ["0.9", "= 0.9", "> x", "> 1 > 0", "", "> inf", "!= 3", 0.9, None, "=> 1"])
def test_other_texts_are_no_inequality(text: object) -> None:
    assert inequality_of(text) is None


# Where a file errs: what follows LINE, the line it is found in, and what is said

FAULTS = [
    ("epoch = 3", 2, "unknown key 'epoch'; did you mean 'epochs'? Known: name, title, task, task_options, modes"),
    ("\n\nbatch_size = 3", 4, "unknown key 'batch_size'; did you mean 'task_options.batch_size'?"),
    ("lr = 3", 2, "unknown key 'lr'; did you mean 'optimizer.lr'?"),
    ("zzz = 2020-01-01", 2, "unknown key 'zzz'. Known: name"),
    ("folder = 'there'", 2, "unknown key 'folder'"),
    ("epochs = 0", 2, "epochs must be greater than or equal to 1, got 0"),
    ("epochs = 1.5", 2, "epochs must be an integer, got 1.5"),
    ("epochs = '3'", 2, "epochs must be an integer, got '3'"),
    ("epochs = true", 2, "epochs must be an integer, got true"),
    ("title = 'x'\nsteps = 0", 3, "steps must be greater than or equal to 1, got 0"),
    ("steps = -5", 2, "steps must be greater than or equal to 1, got -5"),
    ("epochs = 3\nsteps = 4", 3, "give epochs or steps, not both"),
    ("title = 3", 2, "title must be a string, got 3"),
    ("device = 0", 2, "device must be"),
    ("threads = 0", 2, "threads must be greater than or equal to 1, got 0"),
    ("name = 'a/b'", 2, "name must have only letters, digits, spaces and _ . + = -, start with a letter, digit or _"),
    ("name = '..'", 2, "name must have only letters, digits"),
    ("name = ''", 2, "name must have only letters, digits"),
    ("modes = 'zero_grad'", 2, "modes must be a list, got 'zero_grad'"),
    ("modes = []", 2, "modes"),
    ("modes = [1]", 2, "modes must be a string, got 1"),
    (
        "modes = [\n'zero_grad',\n'hlve_grad',\n]",
        2,
        "unknown mode 'hlve_grad'; did you mean 'halve_grad'? Known: zero",
    ),
    ("modes = ['decay:2']", 2, "mode 'decay:2': decay must be between 0 and 1. For other values, use 'keep=2'."),
    ("modes = ['zero_grad', 'Zero-Grad']", 2, "mode 'zero_grad' is given twice"),
    ("seeds = 0", 2, "seeds must be a list, or the number of seeds from 1 to 100,000, got 0"),
    ("seeds = 100_001", 2, "seeds must be a list, or the number of seeds from 1 to 100,000, got 100001"),
    ("seeds = '3'", 2, "seeds must be a list, or the number of seeds from 1 to 100,000, got '3'"),
    ("seeds = []", 2, "seeds"),
    ("seeds = [1, 'two']", 2, "seeds must be an integer, got 'two'"),
    ("seeds = [-1]", 2, "seeds must be greater than or equal to 0, got -1"),
    ("seeds = [4294967296]", 2, "seeds must be less than 4294967296, got 4294967296"),
    ("seeds = [7, 8, 7]", 2, "seed '7' is given twice"),
    ("[optimizer]\nlr = 0", 3, "optimizer.lr must be greater than 0, got 0"),
    ("[optimizer]\nname = 'sgd'\nlr = -0.1", 4, "optimizer.lr must be greater than 0, got -0.1"),
    ("optimizer.lr = -0.1", 2, "optimizer.lr must be greater than 0, got -0.1"),
    ("[optimizer]\nlr = '0.1'", 3, "optimizer.lr must be a number, got '0.1'"),
    ("[optimizer]\nlr = true", 3, "optimizer.lr must be a number, got true"),
    ("[optimizer]\nlr = nan", 3, "optimizer.lr must be a finite number, got nan"),
    ("[optimizer]\nlr = inf", 3, "optimizer.lr must be a finite number, got inf"),
    ("[optimizer]\nname = 'adamm'", 3, "unknown optimizer 'adamm'; did you mean 'Adam'? Known: vanilla, Adadelta"),
    ("[optimizer]\nname = 'lbfgs'", 3, "optimizer 'LBFGS' is not supported: it evaluates the loss several times"),
    ("[optimizer]\nname = 3", 3, "optimizer.name must be a string, got 3"),
    ("[optimizer]\nmomentun = 1", 3, "optimizer 'SGD': unknown option 'momentun'; did you mean 'momentum'? Known: d"),
    ("[optimizer]\nname = 'vanilla'\nmomentum = 1", 4, "optimizer 'vanilla': unknown option 'momentum'. Known: lr"),
    ("[optimizer]\nmomentum = [[1]]", 3, "optimizer.momentum must be a number, a string, true, false or a list of"),
    ("[optimizer]\nmomentum = {x = 1}", 3, "optimizer.momentum must be a number, a string, true, false or a list"),
    ("optimizer = 'sgd'", 2, "optimizer must be"),
    ("[task_options]\nsampels = 3", 3, "task 'noisy_line': unknown option 'sampels'; did you mean 'samples'? Known:"),
    ("[task_options]\nsamples = 'x'", 3, "task 'noisy_line': option samples must be an integer, got 'x'"),
    ("[task_options]\nnoise = [[1]]", 3, "task_options.noise must be a number, a string, true, false or a list of"),
    ("task_options = 3", 2, "task_options must be"),
    ("[expect.zero_gard]\nsteps = 3", 2, "unknown mode 'zero_gard'; did you mean 'zero_grad'?"),
    (
        "modes = ['halve_grad']\n[expect.zero_grad]\nsteps = 3",
        3,
        "mode 'zero_grad' has expectations but is not in modes",
    ),
    ("[expect.zero_grad]\nstep = 3", 3, "unknown key 'expect.zero_grad.step'; did you mean 'steps'? Known: verdict"),
    ("[expect.zero_grad]\nverdictt = 'falls'", 3, "unknown key 'expect.zero_grad.verdictt'; did you mean 'verdict'?"),
    (
        "[expect.zero_grad]\naccuracy = 0.9",
        3,
        'expect.zero_grad.accuracy must be a comparison, such as "> 0.9", got 0.9',
    ),
    ("[expect.zero_grad]\naccuracy = '> nan'", 3, 'expect.zero_grad.accuracy must be a comparison, such as "> 0.9"'),
    ("[expect.zero_grad]\n'top 5' = '> 0.9'", 3, "unknown key 'expect.zero_grad.top 5'. Known: verdict"),
    ("evaluate_every = 0", 2, "evaluate_every must be greater than or equal to 1, got 0"),
    ("[expect.zero_grad]\nverdict = 'fall'", 3, "expect.zero_grad.verdict must be 'falls', 'rises', 'oscillates', '"),
    ("[expect.zero_grad]\nsteps = 0", 3, "expect.zero_grad.steps must be greater than or equal to 1, got 0"),
    ("[expect.zero_grad]\nlast_loss_below = nan", 3, "expect.zero_grad.last_loss_below must be a finite number, got"),
    ("[expect.zero_grad]\nsteps = 3\n[expect.Zero-Grad]\nsteps = 4", 4, "mode 'zero_grad' is given twice"),
    (
        "[optimizer]\nname = 'adam'\nbetas = 0.9",
        4,
        "optimizer 'Adam': option betas must be a list of 2 numbers, got 0",
    ),
    ("[optimizer]\nweight_decay = true", 3, "optimizer 'SGD': option weight_decay must be a number, got true"),
    ("schedule = 'linear'\n[optimizer]\nname = 'vanilla'", 2, "schedule 'linear' needs an optimizer from torch.optim"),
    (
        "match_lr = true\n[optimizer]\nname = 'adam'",
        2,
        "match_lr needs an optimizer whose step is lr × gradient, such",
    ),
    ("[expect]\nzero_grad = 3", 3, "expect.zero_grad must be"),
    ("log = 'geometri'", 2, "log must be 'geometry', got 'geometri'"),
    ("log = ['geometry', 3]", 2, "log must be 'geometry', got 3"),
    ("log = true", 2, "log must be a list, got true"),
    ("log = ['geometry', 'geometry']", 2, "log 'geometry' is given twice"),
]


@pytest.mark.parametrize(("text", "line", "said"), FAULTS, ids=[text.replace("\n", " ") for text, _, _ in FAULTS])
def test_a_fault_has_its_place_and_the_words_of_toml(text: str, line: int, said: str) -> None:
    answer = complaint(LINE + text)
    assert answer.startswith(f"mine.toml:{line}: {said}")
    assert not re.search(r"dictionary|instance of|validation|Input|union", answer)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("title = 'no task'", 1, "task is missing"),
        (
            "title = 'x'\ntask = 'nosy_line'",
            2,
            "unknown task 'nosy_line'; did you mean 'noisy_line'? Known: noisy_line",
        ),
        ("task = 3", 1, "task must be a string, got 3"),
        ("\ntask = 'mine.py:f'", 2, "task 'mine.py:f': no file mine.py"),
        ("task = 'straight_line'\n[task_options]\nloss = 3", 3, "task 'straight_line': option loss must be a string"),
    ],
)
def test_a_task_mistake_is_reported_with_file_and_line(text: str, line: int, said: str) -> None:
    assert complaint(text).startswith(f"mine.toml:{line}: {said}")


# All faults at once: the whole of a file, and where each is with what begins what is said

SEVERAL = [
    ("taks = 'digits'", ["1: unknown key 'taks'; did you mean 'task'? Known: name, title, task, "]),
    (
        "task = 'digits'\n[optimiser]\nname = 'adam'\n[task_optons]\nx = 3",
        [
            "2: unknown key 'optimiser'; did you mean 'optimizer'?",
            "4: unknown key 'task_optons'; did you mean 'task_o",
        ],
    ),
    (
        "epoch = 3\ntaks = 'digits'\nseeds = true\n[optimizer]\nlr = -1\nmomentun = 0.5",
        [
            "1: unknown key 'epoch'; did you mean 'epochs'?",
            "2: unknown key 'taks'; did you mean 'task'?",
            "3: seeds must be a list, or the number of seeds from 1 to 100,000, got true",
            "5: optimizer.lr must be greater than 0, got -1",
            "6: optimizer 'SGD': unknown option 'momentun'; did you mean 'momentum'?",
        ],
    ),
    (
        "task = 'digit'\nmodes = ['hlve_grad', 'zero_gard']\n[task_options]\nhiden = 3\n[expect.halve_grad]\nstep = 3",
        [
            "1: unknown task 'digit'; did you mean 'digits'?",
            "2: unknown mode 'hlve_grad'; did you mean 'halve_grad'?",
            "2: unknown mode 'zero_gard'; did you mean 'zero_grad'?",
            "6: unknown key 'expect.halve_grad.step'; did you mean 'steps'?",
        ],
    ),
    (
        "title=3\ntask='digits'\n[task_options]\nhiden=3\nbatch_size='x'\n[optimizer]\nnam='adam'\neps=1\nlr=0",
        [
            "1: title must be a string, got 3",
            "4: task 'digits': unknown option 'hiden'; did you mean 'hidden'?",
            "5: task 'digits': option batch_size must be an integer, got 'x'",
            "7: unknown key 'optimizer.nam'; did you mean 'name'?",
            "9: optimizer.lr must be greater than 0, got 0",
        ],
    ),
    (
        "task = 'digits'\nepochs = 3\nsteps = 4\n[optimizer]\nname = 'adamm'\nmomentun = 3",
        ["3: give epochs or steps, not both", "5: unknown optimizer 'adamm'; did you mean 'Adam'?"],
    ),
    (
        "modes = ['halve_grad']\n[vary]\nlearning_rat = [1]\nkep = [1]\nlr = [1]\nseed = [1]\noptimizer.x = [1]",
        [
            "1: task is missing",
            "3: unknown key 'vary.learning_rat'; did you mean 'learning_rate'?",
            "4: unknown key 'vary.kep'; did you mean 'keep'?",
        ],
    ),
    (
        "task = 'digits'\nmods = ['halve_grad']\n[expect.halve_grad]\nverdct = 'falls'\nsteps = 'x'",
        [
            "2: unknown key 'mods'; did you mean 'modes'?",
            "4: unknown key 'expect.halve_grad.verdct'; did you mean 'verdict'?",
            "5: expect.halve_grad.steps must be an integer, got 'x'",
        ],
    ),
    (
        "task = 'digits'\nengine = 'tensorflow'\ndevice = 'cuda'\n[optimizer]\nmomentum = 0.5",
        ["3: engine 'tensorflow' supports only SGD", "5: engine 'tensorflow' supports only SGD"],
    ),
]


@pytest.mark.parametrize(("text", "said"), SEVERAL, ids=[text.replace("\n", " ") for text, _ in SEVERAL])
def test_all_mistakes_are_reported_in_the_order_of_lines(text: str, said: list[str]) -> None:
    shown = complaint(text).splitlines()
    assert [line[: len(each)] for line, each in zip(shown, (f"mine.toml:{each}" for each in said), strict=True)] == [
        f"mine.toml:{each}" for each in said
    ]


def test_faults_of_the_command_line_follow_those_of_the_file() -> None:
    shown = complaint("taks = 'digits'", Override(("optimizer", "lr"), -1.0, "--lr"), set_("epoch=3")).splitlines()
    assert [line.partition(";")[0] for line in shown] == [
        "mine.toml:1: unknown key 'taks'",
        "--lr must be greater than 0, got -1.0",
        "unknown key 'epoch'",
    ]


def test_a_task_misspelt_on_the_command_line_is_not_missing() -> None:
    assert complaint("title = 'x'", set_("taks=digits")).startswith("unknown key 'taks'; did you mean 'task'?")


def test_a_message_has_the_first_ten_mistakes_of_a_thousand() -> None:
    shown = complaint(LINE + "".join(f"key{nth} = 1\n" for nth in range(1000))).splitlines()
    assert shown[9] == "mine.toml:11: unknown key 'key9'."
    assert shown[10:] == ["Only the first 10 mistakes are shown."]


def test_ten_mistakes_are_not_called_the_first_ten() -> None:
    shown = complaint(LINE + "".join(f"key{nth} = 1\n" for nth in range(10))).splitlines()
    assert [line.partition(".toml:")[2].partition(":")[0] for line in shown] == [str(nth) for nth in range(2, 12)]


@pytest.mark.parametrize("digits", [20, 400, 5000])  # beyond 2⁶³; beyond a float; beyond what Python reads
@pytest.mark.parametrize("key", ["steps", "epochs", "threads"])
def test_a_count_beyond_all_use_is_an_error(key: str, digits: int) -> None:
    assert complaint(f"{LINE}{key} = 1{'0' * digits}").startswith("mine.toml")


@pytest.mark.parametrize("digits", [400, 5000])
@pytest.mark.parametrize("key", ["optimizer.lr", "optimizer.momentum", "task_options.noise"])
def test_a_number_beyond_a_float_is_an_error(key: str, digits: int) -> None:
    assert complaint(f"{LINE}{key} = 1{'0' * digits}").startswith("mine.toml")


def test_a_number_too_long_for_python_is_an_error_in_a_flag_too() -> None:
    with pytest.raises(ExperimentError, match="steps"):
        loaded(LINE, Override.parse("steps=1" + "0" * 5000))


def test_a_mistake_takes_one_short_line_however_long_the_value() -> None:
    said = complaint(LINE + f"epochs = '{'x' * 10_000}'")
    assert len(said) < 150
    assert "\n" not in said


def test_a_missing_file_is_reported_with_the_shipped_experiments() -> None:
    with pytest.raises(ExperimentError) as raised:
        load("nosuch.toml")
    assert str(raised.value) == f"No file 'nosuch.toml'. Shipped experiments: {', '.join(shipped())}"


def test_a_folder_is_no_experiment() -> None:
    Path("folder.toml").mkdir()
    with pytest.raises(ExperimentError, match=r"'folder\.toml' is a folder"):
        load("folder.toml")


def test_a_file_that_is_not_toml_is_reported_with_its_line() -> None:
    assert re.fullmatch(r"mine\.toml is not TOML: .*at line 3, column 6\)", complaint(LINE + "x = 1\ntitle\n"))


def test_a_file_that_is_not_text_is_answered_with_the_byte() -> None:
    Path("mine.toml").write_bytes(b"title = '\xff'")
    with pytest.raises(ExperimentError, match=r"mine\.toml is not UTF-8 text: byte 9 is 0xff"):
        load("mine.toml")


@pytest.mark.parametrize("table", ["", "[task_options]\n", "[optimizer]\n"])
def test_nesting_of_any_depth_is_an_error_without_a_traceback(table: str) -> None:
    for depth in [*range(2, 30), *range(30, 600, 30), 100_000]:  # a level takes tomllib two frames of a thousand
        assert complaint(f"{LINE}{table}x = {'[' * depth}{']' * depth}").startswith("mine.toml")


def test_a_file_nested_too_deeply_is_said_to_be() -> None:
    assert complaint("x = " + "[" * 10_000) == "mine.toml is nested too deeply for an experiment"


# A name


def test_an_experiment_that_ships_is_named_however_it_is_written() -> None:
    file = shipped()["diverging_loss"]
    assert [locate(name) for name in ("diverging_loss", "diverging-loss", "Diverging_Loss")] == [file] * 3


def test_a_mistyped_experiment_is_reported_with_the_nearest() -> None:
    with pytest.raises(ExperimentError) as raised:
        load("diverging_los")
    known = ", ".join(shipped())
    assert str(raised.value) == f"unknown experiment 'diverging_los'; did you mean 'diverging_loss'? Known: {known}"


@pytest.mark.parametrize(
    "name", ["noisy_line", "Noisy-Line", "bad.py:kw", "sub/bad.py:kw", "bad.py:", "package.module:kw", "module:kw"]
)
@pytest.mark.parametrize("command", ["run", "sweep"])
def test_the_name_of_a_task_is_answered_with_how_to_run_one(name: str, command: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        load(name, command=command)
    assert str(raised.value) == f"'{name}' is a task, not an experiment. To run it: gradlab {command} --task {name}"


@pytest.mark.parametrize("name", ["digits", "Straight-Line"])
def test_an_experiment_goes_before_a_task_of_its_name(name: str) -> None:
    assert locate(name).suffix == ".toml"


def test_a_file_of_ones_own_is_not_hidden_by_one_that_ships() -> None:
    write(LINE + "title = 'my own'", "diverging_loss.toml")
    assert load("diverging_loss.toml").title == "my own"


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_experiment_loads_by_name_and_has_a_title(name: str) -> None:
    made = load(name)
    assert made.name == name
    assert made.title


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_experiment_expects_only_of_its_own_modes(name: str) -> None:
    made = load(name)
    assert set(made.expect) <= set(made.modes)


def test_the_default_experiment_ships() -> None:
    assert experiments.DEFAULT_EXPERIMENT in shipped()


# A task alone


def test_a_task_alone_makes_an_experiment_named_after_it() -> None:
    made = from_task("Noisy-Line")
    assert (made.name, made.task_name.name, made.folder) == ("noisy_line", "noisy_line", None)
    assert (made.optimizer.name, made.optimizer.lr, made.epochs, made.seeds) == ("SGD", 0.01, 10, [42])
    assert made.modes == list(modes.DEFAULT)


def test_a_users_task_names_its_experiment_after_the_function() -> None:
    write("def my_task(seed): ...", "mine.py")
    assert from_task("mine.py:my_task").name == "my_task"


def test_a_task_alone_takes_what_the_command_line_says() -> None:
    made = from_task("noisy_line", [Override(("task_options", "batch_size"), 4, "--batch-size"), set_("name=other")])
    assert (made.task_options, made.name) == ({"batch_size": 4}, "other")


def test_a_fault_without_a_file_is_answered_without_a_place() -> None:
    with pytest.raises(ExperimentError) as raised:
        from_task("noisy_line", [Override(("optimizer", "lr"), -1.0, "--lr")])
    assert str(raised.value) == "--lr must be greater than 0, got -1.0"


# On top of a file

FULL = """
task = "noisy_line"
modes = ["zero_grad"]
seeds = [1]
epochs = 3
[task_options]
samples = 5
[optimizer]
name = "sgd"
lr = 0.5
momentum = 0.25
"""


@pytest.mark.parametrize(
    ("key", "value", "got"),
    [
        (("modes",), ["Halve-Grad"], ["halve_grad"]),
        (("seeds",), [7, 8], [7, 8]),
        (("epochs",), 9, 9),
        (("device",), "cuda", "cuda"),
        (("title",), "other", "other"),
        (("task_options", "samples"), 6, 6),
        (("optimizer", "lr"), 0.125, 0.125),
        (("optimizer", "momentum"), 0.5, 0.5),
    ],
)
def test_the_command_line_overrides_its_keys_and_no_others(key: tuple[str, ...], value: object, got: object) -> None:
    expected = loaded(FULL).model_dump()
    *path, last = key
    section = expected
    for part in path:
        section = section[part]
    section[last] = got
    assert loaded(FULL, Override(key, value, "--flag")).model_dump() == expected


def test_steps_replace_the_files_epochs_and_the_reverse() -> None:
    assert loaded(FULL, set_("steps=4")).model_dump(include={"steps", "epochs"}) == {"steps": 4, "epochs": None}
    of_steps = FULL.replace("epochs = 3", "steps = 3")
    assert loaded(of_steps, set_("epochs=4")).model_dump(include={"steps", "epochs"}) == {"steps": None, "epochs": 4}


def test_another_task_drops_the_options_of_the_files_task() -> None:
    made = loaded(FULL, Override(("task",), "digits", "--task"))
    assert (made.task, made.task_options) == ("digits", {})


def test_another_optimizer_keeps_only_the_lr_of_the_file() -> None:
    made = loaded(FULL, Override(("optimizer", "name"), "adam", "--optimizer"))
    assert (made.optimizer.name, made.optimizer.options) == ("Adam", {"lr": 0.5})


@pytest.mark.parametrize("first", [True, False])
def test_an_option_applies_before_and_after_its_optimizers_name(first: bool) -> None:
    for name, option in (
        ("optimizer.name=rmsprop", "optimizer.momentum=0.75"),
        ("task=digits", "task_options.hidden=3"),
    ):
        pair = [set_(option), set_(name)] if first else [set_(name), set_(option)]
        made = loaded(FULL, *pair)
        key = option.partition(".")[2].partition("=")[0]
        assert key in (made.optimizer.options | made.task_options)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (Override(("optimizer", "lr"), -1.0, "--lr"), "--lr must be greater than 0, got -1.0"),
        (Override(("steps",), 0, "--steps"), "--steps must be greater than or equal to 1, got 0"),
        (Override(("epochs",), -2, "--epochs"), "--epochs must be greater than or equal to 1, got -2"),
        (Override(("seeds",), [-1], "--seed"), "--seed must be greater than or equal to 0, got -1"),
        (Override(("seeds",), [3, 3], "--seed"), "seed '3' is given twice"),
        (Override(("modes",), ["hlve_grad"], "--mode"), "unknown mode 'hlve_grad'; did you mean 'halve_grad'?"),
        (Override(("task",), "digit", "--task"), "unknown task 'digit'; did you mean 'digits'?"),
        (Override(("optimizer", "name"), "adamm", "--optimizer"), "unknown optimizer 'adamm'; did you mean 'Adam'?"),
        (
            Override(("task_options", "batch_size"), "x", "--batch-size"),
            "task 'noisy_line': option batch_size must be",
        ),
        (set_("optimizer.lr=-1"), "optimizer.lr must be greater than 0, got -1"),
        (set_("optimizer.momentun=1"), "optimizer 'SGD': unknown option 'momentun'; did you mean 'momentum'?"),
        (set_("epoch=3"), "unknown key 'epoch'; did you mean 'epochs'?"),
        (set_("folder=there"), "unknown key 'folder'"),
        (set_("epochs.deep=3"), "--set epochs.deep: epochs is not a table"),
    ],
    ids=lambda value: value.flag if isinstance(value, Override) else "",
)
def test_a_command_line_mistake_names_its_flag_and_no_line(override: Override, said: str) -> None:
    assert complaint(FULL, override).startswith(said)


def test_epochs_and_steps_on_the_command_line_are_one_too_many() -> None:
    both = [Override(("steps",), 3, "--steps"), Override(("epochs",), 3, "--epochs")]
    assert complaint(LINE, *both) == "give epochs or steps, not both"


def test_a_file_mistake_names_its_line_beside_any_flags() -> None:
    text = LINE + "seeds = [1, 1]\nepochs = 'x'"
    assert complaint(text, set_("title=x"), set_("epochs=3")) == "mine.toml:2: seed '1' is given twice"


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("epochs=3", ("epochs",), 3),
        ("optimizer.lr=0.5", ("optimizer", "lr"), 0.5),
        ("optimizer.nesterov=true", ("optimizer", "nesterov"), True),
        ("optimizer.betas=[0.5, 0.75]", ("optimizer", "betas"), [0.5, 0.75]),
        ("task_options.loss=mse", ("task_options", "loss"), "mse"),
        ("task_options.loss='mse'", ("task_options", "loss"), "mse"),
        ("title=a = b", ("title",), "a = b"),
        ("title=", ("title",), ""),
        ("title = two words ", ("title",), " two words "),
        ('expect."accumulate:4".steps=3', ("expect", "accumulate:4", "steps"), 3),
        ("modes=['zero_grad']", ("modes",), ["zero_grad"]),
    ],
)
def test_set_takes_a_line_of_toml_or_a_string_without_quotes(text: str, key: tuple[str, ...], value: object) -> None:
    assert Override.parse(text) == Override(key, value, f"--set {'.'.join(key)}")


@pytest.mark.parametrize("text", ["", "epochs", "=3", ".=3", "a..b=3", "two words=3", "a=1\nb=2"])
def test_set_without_a_key_and_a_value_says_how_to_write_them(text: str) -> None:
    with pytest.raises(
        ExperimentError, match=r"^--set .*: write --set KEY=VALUE, such as --set optimizer\.momentum=0\.9"
    ):
        Override.parse(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("lr=0.1", ("optimizer", "lr")),
        ("learning_rate=0.1", ("optimizer", "lr")),
        ("momentum=0.1", ("optimizer", "momentum")),
        ("batch_size=4", ("task_options", "batch_size")),
        ("batch-size=4", ("task_options", "batch_size")),
    ],
)
def test_set_takes_the_short_names_of_vary(text: str, key: tuple[str, ...]) -> None:
    assert Override.parse(text).key == key


@pytest.mark.parametrize(
    ("texts", "mode"),
    [
        (["keep=0.5"], "keep=0.5,every=1"),
        (["every=4"], "keep=0,every=4"),
        (["keep=1", "every=4"], "keep=1,every=4"),
        (["keep=0.1", "keep=0.2"], "keep=0.2,every=1"),
        (["every=4", "lr=0.1", "keep=-0.25"], "keep=-0.25,every=4"),
    ],
)
def test_set_keep_and_every_make_the_one_mode(texts: list[str], mode: str) -> None:
    assert loaded(FULL + "[expect.zero_grad]\nsteps = 3", *overrides_of(texts)).modes == [mode]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["keep=half"], "--set keep: keep must be a number, got 'half'"),
        (["keep=.5"], "--set keep: keep must be a number, got '.5'; write 0.5"),
        (["keep=true"], "--set keep: keep must be a number, got True"),
        (["keep=nan"], "--set keep: mode 'keep=nan': keep must be a finite number"),
        (["keep=1" + "0" * 400], "--set keep: "),
        (["every=1.5"], "--set every: every must be an integer, got 1.5"),
        (["every=0"], "--set every: the number of backward passes per step must be at least 1, got 0"),
        (
            ["keep=0.5", "modes=['zero_grad']"],
            "--set keep sets the mode, so --set modes cannot be used. Remove one.",
        ),
    ],
)
def test_set_keep_and_every_refuse_what_makes_no_mode(texts: list[str], said: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        overrides_of(texts)
    assert str(raised.value).startswith(said)


def test_set_keep_beside_a_mode_is_refused() -> None:
    with pytest.raises(ExperimentError, match="--set keep and --set every set the mode, so --mode cannot be used"):
        overrides_of(["keep=0.5", "every=2"], [Override(("modes",), ["halve_grad"], "--mode")])


# Identity


SAME: list[tuple[str, str]] = [
    ("[optimizer]\nname = 'SGD'", "[optimizer]\nname = 'sgd'"),
    ("[optimizer]\nname = 'SGD'", ""),
    ("[optimizer]\nlr = 1", "[optimizer]\nlr = 1.0"),
    ("[optimizer]\nlr = 0.01", ""),
    ("[optimizer]\nlr = 1e-1\nmomentum = 0.5", "optimizer = {momentum = 0.5, lr = 0.1}"),
    ("[optimizer]\nmomentum = 1", "[optimizer]\nmomentum = 1.0"),
    ("[optimizer]\nname = 'adam'\nbetas = [0, 0.5]", "[optimizer]\nname = 'adam'\nbetas = [0.0, 0.5]"),
    ("modes = ['halve-grad']", "modes = ['halve_grad']"),
    ("modes = ['keep=.5,every=04']", "modes = ['every=4,keep=0.50']"),
    ("epochs = 10", ""),
    ("seeds = [42]", ""),
    ("threads = 1\ndevice = 'cpu'", ""),
    ("title = 'one'", "title = 'other'"),
    ("name = 'one'", "name = 'other'"),
    ("[expect.zero_grad]\nsteps = 3", ""),
    ("[task_options]\nbatch_size = 1", ""),
    ("[task_options]\nnoise = 1", "[task_options]\nnoise = 1.0"),
    ("[task_options]\nnoise = 1.0\nsamples = 40", "[task_options]\nsamples = 40"),
]
DIFFERENT: list[tuple[str, str]] = [
    ("[optimizer]\nlr = 0.1", "[optimizer]\nlr = 0.10000000000000002"),
    ("[optimizer]\nname = 'adam'", "[optimizer]\nname = 'adamw'"),
    ("[optimizer]\nname = 'vanilla'", "[optimizer]\nname = 'sgd'"),
    ("[optimizer]\nmomentum = 0.5", "[optimizer]\nmomentum = 0.25"),
    ("[optimizer]\nmomentum = 0.5", "[optimizer]\ndampening = 0.5"),
    ("modes = ['zero_grad']", "modes = ['zero_grad:fill']"),
    ("modes = ['accumulate:4']", "modes = ['accumulate:4:sum']"),
    ("seeds = [1]", "seeds = [2]"),
    ("epochs = 3", "epochs = 4"),
    ("epochs = 3", "steps = 3"),
    ("threads = 1", "threads = 2"),
    ("device = 'cpu'", "device = 'cuda'"),
    ("[task_options]\nsamples = 3", "[task_options]\nsamples = 4"),
    ("[task_options]\nnoise = 0.5", ""),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_another_spelling_is_the_same_run(one: str, other: str) -> None:
    assert identities(loaded(LINE + one)) == identities(loaded(LINE + other))


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_a_change_that_decides_the_rows_is_another_run(one: str, other: str) -> None:
    assert not set(identities(loaded(LINE + one))) & set(identities(loaded(LINE + other)))


def test_every_mode_and_seed_of_an_experiment_is_another_run() -> None:
    text = LINE + "seeds = [1, 2, 3]\nmodes = ['zero_grad', 'zero_grad:fill', 'decay:0', 'accumulate:1', 'keep=0']"
    assert len(set(identities(loaded(text)))) == 15


def test_a_run_does_not_depend_on_the_other_modes_and_seeds() -> None:
    alone = identities(loaded(LINE + "modes = ['halve_grad']\nseeds = [7]"))
    assert set(alone) < set(identities(loaded(LINE + "modes = ['zero_grad', 'halve_grad']\nseeds = [6, 7]")))


def test_the_task_however_it_is_written_is_the_same_run() -> None:
    assert identities(loaded("task = 'Noisy-Line'")) == identities(loaded(LINE))


def test_a_users_task_is_identified_by_source_and_not_by_folder() -> None:
    text = "task = 'mine.py:f'\n[task_options]\nwidth = 3"
    write("x = 1", "mine.py")
    write("x = 1", "there/mine.py")
    here = identities(loaded(text))
    assert identities(load(write(text, "there/other.toml"))) == here
    write("x = 2", "mine.py")
    assert not set(identities(loaded(text))) & set(here)


def test_a_users_task_is_found_beside_the_file_without_import() -> None:
    write("raise RuntimeError('imported')", "there/mine.py")
    made = load(write("task = 'mine.py:f'\n[task_options]\nwhatever = 3", "there/mine.toml"))
    assert made.task_name.file == Path("there/mine.py").resolve()
    assert made.task_source is not None


def test_what_a_run_logs_identifies_it_since_its_rows_differ() -> None:
    plain, measured = identities(loaded(LINE)), identities(loaded(LINE + "log = ['geometry']"))
    assert not set(plain) & set(measured)
    assert identities(loaded(LINE + "log = []")) == plain


def test_one_word_to_log_needs_no_list() -> None:
    assert loaded(LINE, set_("log=geometry")).log == loaded(LINE, set_("log=['geometry']")).log == ["geometry"]


def test_an_identity_is_twelve_hexadecimal_digits() -> None:
    (found,) = identities(loaded(LINE + "modes = ['zero_grad']"))
    assert re.fullmatch("[0-9a-f]{12}", found)


# Of the runs with the first seed, or of the sweep. If one changes, people's finished runs are retrained.
PINNED = {
    "adam_linear": "2f0dcb5cc118",
    "digits": "647c3f23bdb4",
    "diverging_loss": "b65b2dce52bb",
    "fine_tuning": "fe4e557f6c9a",
    "fine_tuning_batch_32": "eec8cb355010",
    "gradient_cosine": "4e07e14a6f28",
    "gradient_tape": "04fd80d157c4",
    "halving": "2b04c7ca91d7",
    "halving_matched_lr": "696ab5cc5433",
    "optimizers": "f802aca651ae",
    "phase_digits": "bdb91d606621",
    "phase_full_batch": "4b80d03fcb13",
    "phase_mini_batches": "57723cd43532",
    "set_to_none": "9a4bc5b90581",
    "smoke": "775e5c280e9d",
    "straight_line": "07101c9bc8bf",
    "straight_line_mse": "cb42384aa22c",
    "truncated_bptt": "65da7051963c",
    "unequal_batches": "70ad1d26b225",
    "vanilla_descent": "fbfdc918999a",
}


def test_the_identities_of_shipped_experiments_stay() -> None:
    assert PINNED.keys() == shipped().keys() - {"own_mode"}  # whose identity is that of its source, too
    found = {}
    for name in PINNED:
        made = load(name)
        of_runs = {"runs": [made.settings(mode, made.seeds[0]) for mode in made.parsed_modes]}
        found[name] = identity(settings_of(grid_of(made, engine="ensemble")) if made.vary else of_runs)
    assert found == PINNED


def test_the_order_of_the_settings_does_not_change_the_identity() -> None:
    settings = loaded(LINE).settings(modes.zero_grad(), 1)
    assert identity(settings) == identity(dict(reversed(settings.items())))


def test_the_settings_are_strict_json_and_come_back_equal() -> None:
    settings = loaded(FULL).settings(modes.zero_grad(), 1)
    assert json.loads(json.dumps(settings, allow_nan=False)) == settings


# experiment -> TOML -> experiment

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
MODES = st.sampled_from(
    ["zero_grad", "zero_grad:fill", "no_zero_grad", "halve_grad", "accumulate:3:sum", "keep=0.25,every=2"]
) | st.floats(0, 1).map(lambda keep: modes.decay(keep).name)
COUNT = st.integers(1, 10**12)
OPTIMIZER = st.one_of(
    st.fixed_dictionaries(
        {"name": st.just("SGD"), "lr": st.floats(min_value=5e-324, allow_infinity=False)},
        optional={"momentum": FINITE, "nesterov": st.booleans(), "dampening": st.integers(0, 9)},
    ),
    st.fixed_dictionaries(
        {"name": st.sampled_from(["Adam", "AdamW"]), "lr": st.floats(1e-9, 1e9)},
        optional={"betas": st.lists(FINITE, min_size=2, max_size=2), "amsgrad": st.booleans()},
    ),
    st.fixed_dictionaries({"name": st.just("vanilla"), "lr": st.floats(1e-9, 1e9)}),
)
EXPECTED = st.fixed_dictionaries(
    {},
    optional={
        "verdict": st.sampled_from(["falls", "rises", "oscillates", "diverges", "flat"]),
        "steps": COUNT,
        "updates": COUNT,
        "first_loss_below": FINITE,
        "best_loss_above": FINITE,
        "epoch_losses": st.lists(FINITE, min_size=1, max_size=3),
    },
)
TASK = st.one_of(
    st.fixed_dictionaries(
        {
            "task": st.just("noisy_line"),
            "task_options": st.fixed_dictionaries({}, optional={"samples": COUNT, "noise": FINITE | st.integers()}),
        }
    ),
    st.fixed_dictionaries(
        {
            "task": st.just("straight_line"),
            "task_options": st.fixed_dictionaries({}, optional={"loss": TEXT}),
        }
    ),
)
LENGTH = COUNT.map(lambda n: {"epochs": n}) | COUNT.map(lambda n: {"steps": n})
VALUES: st.SearchStrategy[dict[str, Any]] = st.builds(
    lambda base, task, length, expected: (
        base | task | length | {"expect": dict(zip(base["modes"], expected, strict=False))}
    ),
    st.fixed_dictionaries(
        {
            "name": st.from_regex(r"[a-z0-9_]([a-z0-9_ .+=-]{0,20}[a-z0-9_+=-])?", fullmatch=True),
            "title": TEXT,
            "modes": st.lists(MODES, min_size=1, max_size=4, unique=True),
            "seeds": st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4, unique=True),
            "engine": st.just("loop"),
            "device": st.sampled_from(["cpu", "cuda", "cuda:1", "mps"]),
            "threads": st.integers(1, 1024),
            "checkpoint_every": st.floats(0.1, 1e6),
            "match_lr": st.just(False),  # true goes with some modes only
            "log": st.sampled_from([[], ["geometry"]]),
            "optimizer": OPTIMIZER,
            "vary": st.sampled_from([{}, {"lr": "1e-3:1:4:log", "keep": [0, 0.5], "task_options": {"noise": [0, 1]}}]),
        }
    ),
    TASK,
    LENGTH,
    st.lists(EXPECTED, max_size=3),
)


def toml_of(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> str:
    """Return the values as TOML: what is no table first, each table under its header."""
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    lines = [f"[{'.'.join(quoted(part) for part in path)}]"] if path else []
    lines += [f"{quoted(key)} = {toml_value(value)}" for key, value in plain.items()]
    tables = [toml_of(value, (*path, key)) for key, value in values.items() if isinstance(value, dict)]
    return "\n".join([*lines, *tables])


def toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(toml_value(each) for each in value)}]"
    return quoted(value) if isinstance(value, str) else repr(value)


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@given(VALUES)
def test_what_a_file_says_is_what_the_experiment_holds(values: dict[str, Any]) -> None:
    assert loaded(toml_of(values)).model_dump(exclude_none=True) == values


@given(VALUES)
def test_an_experiment_survives_a_round_trip_through_toml(values: dict[str, Any]) -> None:
    one = loaded(toml_of(values))
    other = loaded(toml_of(one.model_dump(exclude_none=True)))
    assert other == one
    assert identities(other) == identities(one)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("mine.py", "'mine.py' is not an experiment. To run a task in it: gradlab run --task mine.py:FUNCTION"),
        (".", "is a folder"),
    ],
)
def test_a_name_of_no_experiment_is_reported_with_what_to_write(word: str, hint: str) -> None:
    with pytest.raises(ExperimentError, match=re.escape(hint)):
        locate(word if word != "." else "./")


@pytest.mark.parametrize(
    ("word", "lr"),
    [
        ("zero_grad", 0.05),
        ("decay:0.75", 0.0125),
        ("decay:0.9", 0.005),
        ("accumulate:4", 0.05),
        ("accumulate:4:sum", 0.0125),
        ("keep=0.5,every=5:sum", 0.005),
    ],
)
def test_a_matched_lr_is_the_number_one_would_write(word: str, lr: float) -> None:
    made = loaded(f"{LINE}match_lr = true\nmodes = ['{word}']\n[optimizer]\nlr = 0.05")
    assert made.settings(made.parsed_modes[0], 42)["optimizer"]["lr"] == lr


def test_modes_of_two_files_of_one_name_are_said_to_be_such(folder: Path) -> None:
    for name in ("one", "other"):
        (folder / name).mkdir()
        (folder / name / "mine.py").write_text("def f(parameters, update): ...")
    said = complaint(LINE + "modes = ['one/mine.py:f', 'other/mine.py:f']")
    assert said.startswith("mine.toml:2: mode 'mine.py:f' is in two files of the same name, ")
    assert str(folder / "other" / "mine.py") in said
    assert "given twice" not in said
    loaded(LINE + "modes = ['one/mine.py:f', 'other/mine.py:f,every=2']")
    assert "mode 'mine.py:f' is given twice" in complaint(LINE + "modes = ['one/mine.py:f', 'one/mine.py:f']")
