"""The command line: what each command answers, where it says it, and how it fails."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from typer.testing import CliRunner

import gradlab
from gradlab import experiment as experiments
from gradlab.cli import app
from gradlab.modes import WORDS
from gradlab.store import RunFolder
from gradlab.tasks import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.testing import Result

QUICK = ["--set", "task_options.samples=4", "--batch-size", "2", "--epochs", "2"]
LINE = ["run", "--task", "noisy_line", *QUICK]
RUN_KEYS = {
    "mode", "seed", "status", "verdict", "steps", "updates", "first_loss", "last_loss", "best_loss", "seconds",
    "cached", "folder", "training_set_loss",
}  # fmt: skip

FILES = {
    "own.py": """
import torch
from gradlab import Task

def own(seed: int, width: int = 2) -> Task:
    batches = [(torch.randn(3, width), torch.randn(3, 1)) for _ in range(4)]
    return Task.supervised(torch.nn.Linear(width, 1), batches, torch.nn.MSELoss())

def raises(seed: int) -> Task:
    def loss(model, batch):
        return 1 / 0
    return Task(torch.nn.Linear(1, 1), [1], loss)

def diverges(seed: int) -> Task:
    return Task(torch.nn.Linear(1, 1), [1], lambda model, batch: model(torch.ones(1, 1)).mean() * float("nan"))

def unfair(seed: int) -> Task:
    import time
    model = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(model.weight, time.perf_counter_ns() % 1e9)
    return Task.supervised(model, [(torch.ones(1, 1), torch.ones(1, 1))], torch.nn.MSELoss())

def vector(seed: int) -> Task:
    return Task(torch.nn.Linear(1, 1), [1], lambda model, batch: model(torch.ones(3, 1)))

def nothing(seed: int):
    return None

def deaf() -> Task:
    return own(0)

number = 3
""",
    "syntax.py": "def own(seed):\n    return (\n",
    "imports.py": "import a_module_that_is_not_there\n",
    "raising.py": "1 / 0\n",
    "file": "",
    "broken.toml": "task = [\n",
    "latin.toml": "task = 'noisy_line' # \xff\n",
    "empty.toml": "",
    "key.toml": "task = 'noisy_line'\nsteps = 3\nlr = 0.1\n",
    "type.toml": "task = 'noisy_line'\nepochs = 'many'\n",
    "negative.toml": "task = 'noisy_line'\n[optimizer]\nlr = -0.1\n",
    "mode.toml": "task = 'noisy_line'\nmodes = ['zero_grad', 'hlve_grad']\n",
    "twice.toml": "task = 'noisy_line'\n\nseeds = [1, 1]\n",
    "both.toml": "task = 'noisy_line'\nsteps = 3\nepochs = 3\n",
    "expect.toml": "task = 'noisy_line'\n[expect.zero_grad]\nverdict = 'fells'\n",
    "losses.toml": "task = 'noisy_line'\nepochs = 1\n[expect.zero_grad]\nepoch_losses = []\n",
}

# What is asked, and what the answer says of it: the fault and what would work.
FAULTS: list[tuple[str, str]] = [
    ("run nope", "unknown experiment 'nope'. Known: adam_linear, digits, diverging_loss,"),
    ("run bad.py:kw", "'bad.py:kw' is a task, not an experiment. To run it: gradlab run --task bad.py:kw"),
    ("sweep noisy_line", "To run it: gradlab sweep --task noisy_line"),
    ("sharpness pack.age:kw", "To run it: gradlab sharpness --task pack.age:kw"),
    ("run digit", "unknown experiment 'digit'; did you mean 'digits'?"),
    ("run noisy_line", "gradlab run --task noisy_line"),
    ("run missing.toml", "No file 'missing.toml'. Shipped experiments: "),
    ("run missing/digits", "No file 'missing/digits'. Shipped experiments: "),
    ("run broken.toml", "broken.toml is not TOML"),
    ("run latin.toml", "latin.toml is not UTF-8 text: byte 22 is 0xff"),
    ("run empty.toml", "task is missing"),
    ("run key.toml", "key.toml:3: unknown key 'lr'; did you mean 'optimizer.lr'?"),
    ("run type.toml", "type.toml:2: epochs must be an integer, got 'many'"),
    ("run negative.toml", "negative.toml:3: optimizer.lr must be greater than 0, got -0.1"),
    ("run mode.toml", "mode.toml:2: unknown mode 'hlve_grad'; did you mean 'halve_grad'?"),
    ("run twice.toml", "twice.toml:3: seed '1' is given twice"),
    ("run both.toml", "both.toml:2: give epochs or steps, not both"),
    ("run expect.toml", "expect.toml:3: expect.zero_grad.verdict must be 'falls', 'rises'"),
    ("run losses.toml", "losses.toml:4: expect.zero_grad.epoch_losses"),
    ("run -m hlve_grad", "unknown mode 'hlve_grad'; did you mean 'halve_grad'? Known: zero_grad,"),
    ("run -m decay:2", "mode 'decay:2': decay must be between 0 and 1"),
    ("run -m decay:much", "mode 'decay:much' must have the form decay:K"),
    ("run -m accumulate:0", "must be at least 1"),
    ("run -m zero_grad -m ZERO-GRAD", "mode 'zero_grad' is given twice"),
    ("run --task noisy", "unknown task 'noisy'; did you mean 'noisy_line'? Known: noisy_line,"),
    ("run --task missing.py:own", "task 'missing.py:own': no file missing.py"),
    ("run --task no_such_module:own", "no module no_such_module in the current folder or installed"),
    ("run --task no_such_package.module:own", "No module named 'no_such_package'"),
    ("run --task own.py:", "expected a function name after the colon"),
    ("run --task syntax.py:own", "syntax.py:2: SyntaxError"),
    ("run --task imports.py:own", "imports.py:1: ModuleNotFoundError: No module named 'a_module_that_is_not_there'"),
    ("run --task raising.py:own", "raising.py:1: ZeroDivisionError"),
    ("run --task own.py:nope", "unknown function in"),
    ("run --task own.py:number", "number is an int, not a function"),
    ("run --task own.py:deaf", "must take a seed"),
    ("run --task own.py:unfair", "task 'own.py:unfair' is not deterministic: two calls with seed 42"),
    ("run --task own.py:vector", "must be a scalar tensor, got a tensor of shape (3, 1)"),
    ("run --task own.py:nothing", "task 'own.py:nothing' returned None"),
    ("run --task own.py:own --set task_options.depth=2", "unknown option 'depth'"),
    ("run --task own.py:own --set task_options.width=wide", "option width must be an integer, got 'wide'"),
    ("run --task straight_line --batch-size 3", "unknown option 'batch_size'"),
    ("run --optimizer sdg", "unknown optimizer 'sdg'; did you mean 'SGD'?"),
    ("run --optimizer lbfgs", "optimizer 'LBFGS' is not supported"),
    ("run --lr 0", "--lr must be greater than 0, got 0.0"),
    ("run --lr -0.1", "--lr must be greater than 0, got -0.1"),
    ("run --lr nan", "--lr must be"),
    ("run --lr inf", "--lr must be a finite number, got inf"),
    ("run --lr high", "Invalid value for '--lr': must be a valid number"),
    ("run --steps 0", "--steps must be greater than or equal to 1, got 0"),
    ("run --steps -1", "--steps must be greater than or equal to 1, got -1"),
    ("run --steps many", "'--steps': must be a valid integer"),
    ("run --epochs 0", "--epochs must be greater than or equal to 1, got 0"),
    ("run --epochs 2 --steps 3", "give epochs or steps, not both"),
    ("run --batch-size 0", "batch_size must be at least 1, got 0"),
    ("run --seed -1", "--seed must be greater than or equal to 0, got -1"),
    ("run --seed 4294967296", "--seed must be less than 4294967296"),
    ("run --seed 1 --seed 1", "seed '1' is given twice"),
    ("run --set momentum", "--set momentum has no '='"),
    ("run --set momentun=0.9", "unknown key 'momentun'; did you mean 'optimizer.momentum'?"),
    ("run --set optimizer.momentumm=0.9", "optimizer 'SGD': unknown option 'momentumm'; did you mean 'momentum'?"),
    ("run --set optimizer.momentum=-1", "optimizer 'SGD': Invalid momentum value: -1"),
    ("run --set optimizer.lr=high", "optimizer.lr must be a number, got 'high'"),
    ("run --set optimizer=3 --lr 1", "optimizer"),
    ("run --set a.b.c=1", "unknown key 'a'"),
    ("run --set =3", "write --set KEY=VALUE"),
    ("run --device tpu9000", "device 'tpu9000' is not available"),
    ("run --out file", "file/diverging_loss cannot be written: Not a directory"),
    ("run --no-such-flag", "No such option: --no-such-flag"),
    ("run digits extra", "unexpected extra argument"),
    ("plot", "No runs yet. `gradlab run` trains some."),
    ("plot nowhere", "No run folder 'nowhere'."),
    ("plot file", "'file' is not a folder."),
    ("plot RUNS -o loss.jpg", "loss.jpg: unknown picture format. Use .png, .svg, .pdf."),
    ("plot RUNS -o loss.png -o loss", "loss: unknown picture format"),
    ("plot RUNS -o missing/loss.png", "missing/loss.png cannot be written: no such folder"),
    ("plot RUNS -o file/loss.png", "file/loss.png cannot be written: Not a directory"),
    ("plot RUNS --x time", "unknown axis 'time'"),
    ("plot RUNS --y los", "these runs did not log 'los'; did you mean 'loss'? Logged: loss"),
    ("plot RUNS --y accuracy -o missing/loss.png", "these runs did not log 'accuracy'. Logged: loss"),
    ("plot RUNS --width 5", "'--width': must be greater than or equal to 400"),
    ("show nowhere", "No run folder 'nowhere'."),
    ("show", "Missing argument 'FOLDER'"),
    ("export", "Missing argument 'FOLDER'"),
    ("export nowhere", "No run folder 'nowhere'."),
    ("export RUNS --to xlsx", "unknown format 'xlsx'. Known: csv"),
    ("export RUNS -o file/rows.csv", "file/rows.csv cannot be written: Not a directory"),
    ("export RUNS -o .", "cannot be written"),
    ("experiments nope", "unknown experiment 'nope'"),
    ("no-such-command", "No such command 'no-such-command'"),
    ("--no-such-flag", "No such option: --no-such-flag"),
]


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Put back the handler that `run` replaces."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of runs: the experiment noisy_line, three modes, two seeds, 4 steps each."""
    out = tmp_path_factory.mktemp("trained") / "runs"
    answer = CliRunner().invoke(app, [*LINE, "--seed", "1", "--seed", "2", "--out", str(out), "--quiet"])
    assert answer.exit_code == 0, answer.output
    return out


@pytest.fixture
def here(trained: Path, folder: Path) -> Path:
    """Return the current folder with those runs in runs/."""
    shutil.copytree(trained, folder / "runs")
    return folder


@pytest.fixture
def files(folder: Path) -> Path:
    """Write FILES to the current folder."""
    for name, content in FILES.items():
        (folder / name).write_text(content, encoding="latin-1")
    return folder


def gives(*arguments: str, exit_status: int = 0) -> Result:
    """Run gradlab and see that it ends with that status and without a traceback."""
    answer = CliRunner().invoke(app, list(arguments), prog_name="gradlab")
    assert answer.exit_code == exit_status, (answer.output, answer.exception)
    assert answer.exception is None or isinstance(answer.exception, SystemExit)
    return answer


def strict(text: str) -> Any:
    """Return the one JSON document that `text` is."""

    def refused(token: str) -> NoReturn:
        raise AssertionError(f"{token} is not JSON")

    return json.loads(text, parse_constant=refused)


def document(*arguments: str, exit_status: int = 0) -> Any:
    """Return the JSON document that gradlab answers, with nothing else on either stream."""
    answer = gives(*arguments, "--json", exit_status=exit_status)
    assert answer.stderr == ""
    return strict(answer.stdout)


def modes_of(answer: Any) -> list[str]:
    return [run["mode"] for run in answer["runs"]]


def settings_of(answer: Any) -> Any:
    return strict((Path(answer["runs"][0]["folder"]) / "run.json").read_text())["settings"]


# Faults


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("asked", "says"), FAULTS, ids=[asked for asked, _ in FAULTS])
def test_a_fault_is_one_or_two_lines_on_stderr_with_status_2(asked: str, says: str, trained: Path) -> None:
    answer = gives(*(str(trained) if word == "RUNS" else word for word in asked.split()), exit_status=2)
    assert answer.stdout == ""
    assert says in answer.stderr
    assert 1 <= len(answer.stderr.splitlines()) <= 2
    assert "Traceback" not in answer.stderr
    assert max(map(len, answer.stderr.splitlines())) < 700


# One of each way that an error takes: the parser's, an experiment's, a user's task, a folder's, the group's.
FAULTS_IN_JSON = ["run --lr high", "run mode.toml", "run --task own.py:unfair", "show nowhere", "no-such-command"]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("asked", FAULTS_IN_JSON)
def test_with_json_a_fault_is_one_document_on_stdout(asked: str) -> None:
    answer = document(*asked.split(), exit_status=2)
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"message", "exit_status"}
    assert dict(FAULTS)[asked] in answer["error"]["message"]
    assert answer["error"]["exit_status"] == 2


@pytest.mark.usefixtures("files")
def test_a_fault_found_before_training_leaves_no_run() -> None:
    for asked in ("run --lr -1", "run -m nope", "run --task own.py:nope", "run mode.toml", "run --device tpu9000"):
        gives(*asked.split(), exit_status=2)
    assert not list(Path("runs").glob("*/*"))


def test_the_hint_at_a_picture_can_be_pasted() -> None:
    answer = gives(*LINE, "-m", "zero_grad", "--out", "a b")
    assert answer.stderr.splitlines()[-1] == "To draw: gradlab plot 'a b/noisy_line'"


def test_brackets_in_a_folders_name_are_printed() -> None:
    answer = gives(*LINE, "-m", "zero_grad", "--out", "a[bold]b[/]c")
    assert "logs: a[bold]b[/]c/noisy_line" in answer.stdout


def test_brackets_in_a_title_are_printed() -> None:
    gives(*LINE, "-m", "zero_grad", "--set", "title='[/] [red]'")
    assert "noisy_line: [/] [red]" in gives("show", "runs").stdout


@pytest.mark.parametrize("damage", ["", "[]", '{"format": 1}', '{"format": 9}'])
@pytest.mark.parametrize("command", ["list", "show", "plot", "export"])
def test_a_damaged_record_is_named_in_one_line(here: Path, command: str, damage: str) -> None:
    record = min(here.glob("runs/*/*/run.json"))
    record.write_text(damage)
    answer = gives(*([command] if command == "list" else [command, str(record.parent)]), exit_status=2)
    assert "run.json" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["show", "plot", "export"])
def test_a_damaged_row_is_named_and_the_others_are_used(here: Path, command: str) -> None:
    rows = min(here.glob("runs/*/*/metrics.jsonl"))
    rows.write_text(rows.read_text().replace('"step":2,', '"step":"two",'))
    answer = gives(command, "runs", exit_status=0)
    shown = [line for line in answer.stderr.splitlines() if "not a row" in line]
    assert len(shown) == 1
    assert f"{rows.parent.name}/metrics.jsonl:3: not a row" in shown[0]
    assert "Traceback" not in answer.stderr


def test_three_of_many_damaged_rows_are_named(here: Path) -> None:
    rows = min(here.glob("runs/*/*/metrics.jsonl"))
    lines = rows.read_text().count("\n")
    rows.write_text("damage\n" * lines)
    answer = gives("export", str(rows.parent), exit_status=0)
    shown = [line for line in answer.stderr.splitlines() if "not a row" in line]
    assert len(shown) == 3
    assert shown[2].endswith(f"(and {lines - 3} more)")
    assert len(answer.stdout.splitlines()) == 1


@pytest.mark.parametrize("command", ["list", "show", "plot"])
def test_a_run_with_an_altered_loss_is_not_shown_as_done(here: Path, command: str) -> None:
    rows = min(here.glob("runs/*/*/metrics.jsonl"))
    first, rest = rows.read_text().split("\n", 1)
    head, digit = first[:-2], first[-2]
    rows.write_text(f"{head}{(int(digit) + 1) % 10}}}\n{rest}")
    answer = gives(command, *([] if command == "list" else ["runs"]), exit_status=0)
    assert f"{rows.relative_to(here)} does not match its recorded SHA-256" in answer.stderr


@pytest.mark.parametrize("settings", ["{}", '{"mode": 3}', '{"mode": {"a": []}, "seed": "x"}'])
@pytest.mark.parametrize("command", ["list", "show", "plot", "export"])
def test_settings_edited_by_hand_are_no_traceback(here: Path, command: str, settings: str) -> None:
    for file in here.glob("runs/*/*/run.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"settings": json.loads(settings)}))
    answer = CliRunner().invoke(app, [command] if command in ("list", "plot") else [command, "runs"])
    assert answer.exception is None or isinstance(answer.exception, SystemExit)
    assert answer.exit_code in (0, 2)


# run


def test_run_without_arguments_is_diverging_loss() -> None:
    answer = document("run", "--steps", "3")
    assert (answer["experiment"], answer["folder"]) == ("diverging_loss", "runs/diverging_loss")
    assert modes_of(answer) == ["zero_grad", "no_zero_grad", "halve_grad"]


def test_run_prints_results_on_stdout_and_messages_on_stderr() -> None:
    answer = gives(*LINE)
    for word in ("zero_grad", "no_zero_grad", "halve_grad", "verdict", "logs: runs/noisy_line"):
        assert word in answer.stdout
    assert answer.stderr.splitlines() == [
        "1/3 zero_grad seed 42: done",
        "2/3 no_zero_grad seed 42: done",
        "3/3 halve_grad seed 42: done",
        "To draw: gradlab plot runs/noisy_line",
    ]


FAILING = """
import torch
from gradlab import Task
def own(seed, whole: int = 0):
    def loss(model, batch):
        calls.append(batch)
        return model(batch).square().mean() if len(calls) <= whole else 1 / 0
    calls = []
    return Task(model=torch.nn.Linear(1, 1), batches=[torch.ones(1, 1)], loss=loss)
"""


@pytest.mark.parametrize(("whole", "hints"), [(0, 0), (3, 1)])
def test_run_hints_at_a_picture_where_there_is_a_row(whole: int, hints: int) -> None:
    Path("failing.py").write_text(FAILING)
    task = ["--task", "failing.py:own", "--set", f"task_options.whole={whole}"]
    answer = gives("run", *task, "-m", "zero_grad", "--steps", "9", exit_status=1)
    assert answer.stderr.count("To draw: gradlab plot") == hints


def test_run_prints_the_mean_loss_of_each_epoch_in_words() -> None:
    lines = gives(*LINE, "-m", "zero_grad").stdout.splitlines()
    assert lines[0] == "zero_grad:"
    assert [bool(re.fullmatch(r"model training loss is \d+\.\d", line)) for line in lines[1:4]] == [True, True, False]


def test_quiet_prints_only_the_result() -> None:
    answer = gives(*LINE, "--quiet")
    assert answer.stderr == ""
    assert "verdict" in answer.stdout
    assert "model training loss" not in answer.stdout


def test_what_is_not_a_terminal_sees_no_escape_codes() -> None:
    answer = gives(*LINE)
    assert "\x1b" not in answer.stdout + answer.stderr


def test_run_json_has_exactly_the_agreed_keys() -> None:
    answer = document(*LINE, "--set", "expect.zero_grad.steps=4")
    assert set(answer) == {"experiment", "folder", "runs", "expectations"}
    assert all(set(run) == RUN_KEYS for run in answer["runs"])
    assert [set(each) for each in answer["expectations"]] == [{"mode", "seed", "key", "expected", "got", "ok"}]
    (run, *_) = answer["runs"]
    assert (run["mode"], run["seed"], run["status"], run["steps"], run["updates"]) == ("zero_grad", 42, "done", 4, 4)
    assert run["best_loss"] <= run["last_loss"]
    assert run["cached"] is False
    assert (Path(run["folder"]) / "run.json").is_file()


@pytest.mark.usefixtures("files")
def test_losses_that_are_not_finite_are_strings_in_json() -> None:
    answer = document("run", "--task", "own.py:diverges", "--steps", "2", "-m", "zero_grad")
    (run,) = answer["runs"]
    assert (run["verdict"], run["first_loss"], run["last_loss"]) == ("diverges", "nan", "nan")


def test_a_finished_run_is_reused_unless_fresh() -> None:
    gives(*LINE)
    again = gives(*LINE)
    assert "Reusing 3 of 3 finished runs (--fresh retrains)." in again.stderr
    assert [run["cached"] for run in document(*LINE)["runs"]] == [True] * 3
    assert [run["cached"] for run in document(*LINE, "--fresh")["runs"]] == [False] * 3


def test_an_expectation_that_fails_gives_status_1_and_says_which() -> None:
    answer = gives(*LINE, "--set", "expect.zero_grad.steps=5", exit_status=1)
    assert "expected zero_grad seed 42: steps = 5, got 4" in answer.stdout


def test_expectations_that_hold_are_counted() -> None:
    assert "1 of 1 expectation met" in gives(*LINE, "--set", "expect.zero_grad.steps=4").stdout


def test_an_expectation_that_fails_is_in_the_json_with_status_1() -> None:
    answer = document(*LINE, "--set", "expect.zero_grad.updates=5", exit_status=1)
    assert answer["expectations"] == [
        {"mode": "zero_grad", "seed": 42, "key": "updates", "expected": 5, "got": 4, "ok": False}
    ]


@pytest.mark.usefixtures("files")
def test_a_task_that_raises_shows_the_users_frames() -> None:
    answer = gives("run", "--task", "own.py:raises", "-m", "zero_grad", exit_status=1)
    assert "zero_grad seed 42 failed:\nTraceback (your code):" in answer.stderr
    assert "ZeroDivisionError: division by zero" in answer.stderr
    assert "own.py" in answer.stderr
    assert str(Path(gradlab.__file__).parent) not in answer.stderr


@pytest.mark.usefixtures("files")
def test_a_task_that_raises_is_a_failed_run_in_json() -> None:
    (run,) = document("run", "--task", "own.py:raises", "-m", "zero_grad", exit_status=1)["runs"]
    assert set(run) == RUN_KEYS | {"error"}
    assert (run["status"], run["verdict"], run["first_loss"], run["steps"]) == ("failed", None, None, 0)


@pytest.mark.usefixtures("files")
def test_a_users_task_is_an_experiment_with_the_defaults() -> None:
    answer = document("run", "--task", "own.py:own")
    assert answer["experiment"] == "own"
    assert modes_of(answer) == ["zero_grad", "no_zero_grad", "halve_grad"]
    assert {run["seed"] for run in answer["runs"]} == {42}
    assert {run["steps"] for run in answer["runs"]} == {40}
    assert settings_of(answer)["optimizer"] == {"name": "SGD", "lr": 0.01}
    assert settings_of(answer)["epochs"] == 10


def test_modes_seeds_optimizer_and_lr_come_from_their_flags() -> None:
    answer = document(*LINE, "-m", "halve-grad", "--mode", "DECAY:0.9", "--seed", "3", "--seed", "1",
                      "--optimizer", "adam", "--lr", "0.5")  # fmt: skip
    assert [(run["mode"], run["seed"]) for run in answer["runs"]] == [
        ("halve_grad", 3), ("halve_grad", 1), ("decay:0.9", 3), ("decay:0.9", 1)
    ]  # fmt: skip
    assert settings_of(answer)["optimizer"] == {"name": "Adam", "lr": 0.5}


def test_set_reaches_every_key_as_toml_or_as_a_plain_string() -> None:
    answer = document("run", "--task", "straight-line", "--steps", "2", "--set", "task_options.loss=mse",
                      "--set", "optimizer.momentum=0.5", "--set", "seeds=[7]", "--set", "name=mine")  # fmt: skip
    assert answer["experiment"] == "mine"
    settings = settings_of(answer)
    assert settings["task_options"] == {"loss": "mse"}
    assert settings["optimizer"]["momentum"] == 0.5
    assert settings["seed"] == 7


def test_seed_wins_over_set_and_set_over_the_other_options() -> None:
    answer = document(*LINE, "--set", "seeds=[5]", "--seed", "6", "--set", "optimizer.lr=0.5", "--lr", "0.1")
    assert {run["seed"] for run in answer["runs"]} == {6}
    assert settings_of(answer)["optimizer"]["lr"] == 0.5


def test_batch_size_is_the_option_of_the_task() -> None:
    answer = document("run", "--task", "noisy_line", "--batch-size", "20", "--epochs", "1")
    assert settings_of(answer)["task_options"]["batch_size"] == 20
    assert {run["steps"] for run in answer["runs"]} == {2}


@pytest.mark.parametrize(
    ("of_file", "flags", "steps"),
    [
        ("steps = 3", [], 3),
        ("steps = 3", ["--epochs", "2"], 80),
        ("epochs = 2", [], 80),
        ("epochs = 2", ["--steps", "3"], 3),
        ("", [], 400),
    ],
)
def test_epochs_and_steps_replace_either_of_the_file(of_file: str, flags: list[str], steps: int) -> None:
    Path("mine.toml").write_text(f"task = 'noisy_line'\nmodes = ['zero_grad']\n{of_file}\n")
    answer = document("run", "mine.toml", *flags)
    assert (answer["experiment"], answer["runs"][0]["steps"]) == ("mine", steps)


@pytest.mark.usefixtures("files")
def test_a_task_in_a_file_is_looked_for_beside_the_experiment() -> None:
    Path("deep").mkdir()
    Path("deep/own.toml").write_text("task = 'own.py:own'\nsteps = 1\n")
    shutil.move("own.py", "deep/own.py")
    assert document("run", "deep/own.toml")["experiment"] == "own"


def test_another_task_or_optimizer_drops_the_files_options() -> None:
    Path("mine.toml").write_text(
        "task = 'noisy_line'\nsteps = 1\n[task_options]\nnoise = 2.0\n[optimizer]\nlr = 0.5\nmomentum = 0.9\n"
    )
    settings = settings_of(document("run", "mine.toml", "--task", "straight_line", "--optimizer", "adam"))
    assert settings["task_options"] == {"loss": "l1"}
    assert settings["optimizer"] == {"name": "Adam", "lr": 0.5}


def test_out_says_where_the_runs_go() -> None:
    answer = document(*LINE, "--out", "deep/er")
    assert answer["folder"] == "deep/er/noisy_line"
    assert not Path("runs").exists()


def test_a_name_that_no_folder_can_have_is_refused() -> None:
    for name in ("../up", "a/b", ".hidden", "", "/abs"):
        gives(*LINE, "--set", f"name='{name}'", exit_status=2)
    assert not list(Path().iterdir())


# plot


def test_plot_draws_the_newest_experiment_beside_its_runs(here: Path) -> None:
    answer = gives("plot")
    assert answer.stdout == "runs/noisy_line/loss.png\n"
    assert (here / "runs/noisy_line/loss.png").read_bytes().startswith(b"\x89PNG")


def test_plot_writes_every_file_asked_for(trained: Path) -> None:
    assert gives("plot", str(trained), "-o", "a.png", "-o", "b.svg", "--output", "c.pdf").stdout.split() == [
        "a.png", "b.svg", "c.pdf"
    ]  # fmt: skip
    assert [Path(name).read_bytes()[:4] for name in ("a.png", "b.svg", "c.pdf")] == [b"\x89PNG", b"<?xm", b"%PDF"]


def test_plot_draws_twice_the_same_bytes(trained: Path) -> None:
    gives("plot", str(trained), "-o", "a.png", "-o", "b.png")
    gives("plot", str(trained), "-o", "c.png")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes() == Path("c.png").read_bytes()


def test_plot_quiet_prints_nothing(trained: Path) -> None:
    assert gives("plot", str(trained), "-o", "a.png", "--quiet").output == ""


def test_plot_takes_width_title_and_axis(trained: Path) -> None:
    gives("plot", str(trained), "-o", "a.png", "--width", "640")
    assert int.from_bytes(Path("a.png").read_bytes()[16:20], "big") == 640
    gives("plot", str(trained), "-o", "a.svg", "--title", "MINE", "--x", "update")
    gives("plot", str(trained), "-o", "b.svg", "--title", "MINE", "--x", "step")
    comments = Path("a.svg").read_text(), Path("b.svg").read_text()
    assert all("<!-- MINE -->" in text for text in comments)
    assert ["<!-- update -->" in text for text in comments] == [True, False]


def test_plot_takes_the_quantity_to_draw(trained: Path) -> None:
    gives("plot", str(trained), "-o", "a.png")
    gives("plot", str(trained), "-o", "b.png", "--y", "loss")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


MEASURED = [*LINE, "--set", "log=geometry", "-m", "accumulate:2"]


def test_geometry_is_logged_drawn_and_exported(here: Path) -> None:
    gives(*MEASURED)
    assert gives("plot", "--y", "gradient-norm").stdout == "runs/noisy_line/gradient_norm.png\n"
    assert (here / "runs/noisy_line/gradient_norm.png").read_bytes().startswith(b"\x89PNG")
    header, first, second, *_ = gives("export", "runs").stdout.splitlines()
    assert header.endswith(",loss,items,fresh_norm,gradient_norm,cosine,update_norm")
    assert first.endswith(",1,,,,")
    assert float(second.split(",")[-2]) == 1.0


def test_plot_names_the_runs_without_the_quantity(here: Path) -> None:
    gives(*MEASURED, "--out", "measured")
    gives(*LINE, "-m", "zero_grad", "-q", "--out", "plain")
    answer = gives("plot", "measured", "plain", "-o", "a.png", "--y", "cosine")
    assert (answer.stdout, answer.stderr) == ("a.png\n", "1 run did not log cosine: zero_grad seed 42\n")
    assert (here / "a.png").exists()


def test_plot_takes_scale_limits_modes_and_smoothing(trained: Path) -> None:
    options = [["--yscale", "log"], ["--ylim", "0:9"], ["-m", "zero-grad"], ["--smooth", "3"], ["--size", "3.5x2.5"]]
    pictures = set()
    for nth, given in enumerate([[], *options]):
        gives("plot", str(trained), "-o", f"{nth}.svg", *given)
        pictures.add(Path(f"{nth}.svg").read_bytes())
    assert len(pictures) == 1 + len(options)
    assert "<!-- no_zero_grad -->" in Path("0.svg").read_text()
    assert "<!-- no_zero_grad -->" not in Path("3.svg").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ylim", "5"], "--ylim 5: write --ylim BOTTOM:TOP, such as 0:2"),
        (["--ylim", "nan:"], "--ylim nan:: write"),
        (["--ylim", ":"], "write --ylim"),
        (["--size", "3.5"], "--size 3.5: write --size WIDTHxHEIGHT in inches"),
        (["--size", "0.5x2"], "--size 0.5x2: a side is from 1 to 40 inches"),
        (["--yscale", "square"], "unknown scale 'square'. Known: auto, log, linear"),
        (["-m", "decay:0.9"], "unknown mode of these runs 'decay:0.9'. Known: zero_grad, no_zero_grad, halve_grad"),
    ],
)
def test_plot_refuses_values_with_what_would_work(options: list[str], message: str, trained: Path) -> None:
    assert message in gives("plot", str(trained), "-o", "a.png", *options, exit_status=2).stderr


def test_a_width_in_pixels_is_not_one_of_pdfs(trained: Path) -> None:
    gives("plot", str(trained), "-o", "a.pdf", "-o", "a.svg", "-o", "a.png")
    gives("plot", str(trained), "-o", "b.pdf", "-o", "b.svg", "-o", "b.png", "--width", "6000")
    assert Path("a.pdf").read_bytes() == Path("b.pdf").read_bytes()
    assert [int.from_bytes(Path(f"{name}.png").read_bytes()[16:20], "big") for name in "ab"] == [1200, 6000]
    assert ['width="1200"' in Path("a.svg").read_text(), 'width="6000"' in Path("b.svg").read_text()] == [True, True]


def test_two_learning_rates_do_not_share_a_default_picture(here: Path) -> None:
    gives("plot")
    before = (here / "runs/noisy_line/loss.png").read_bytes()
    gives(*LINE, "--lr", "0.001", "-q")
    assert gives("plot").stdout == "runs/noisy_line/loss-lr-0.001.png\n"
    assert (here / "runs/noisy_line/loss.png").read_bytes() == before
    every = sorted(str(each.parent) for each in Path("runs/noisy_line").glob("*/run.json"))
    assert gives("plot", *every).stdout == "runs/noisy_line/loss-by-lr.png\n"


def test_different_losses_on_one_axis_are_reported() -> None:
    gives("run", "straight_line", "--steps", "2", "-q")
    gives("run", "straight_line_mse", "--steps", "2", "-q")
    answer = gives("plot", "runs/straight_line", "runs/straight_line_mse", "-o", "a.svg")
    assert answer.stderr.startswith("different losses on one axis: l1, mse. Compare the shapes")
    assert "different losses on one axis: l1, mse -->" in Path("a.svg").read_text()


MSE = ["run", "straight_line", "--set", "task_options.loss=mse", "-q", "--steps", "20"]


def test_plot_draws_theory_over_what_was_measured_when_asked_to(here: Path) -> None:
    gives(*MSE, "--out", str(here / "mse"))
    gives("plot", str(here / "mse"), "-o", "a.png")
    answer = gives("plot", str(here / "mse"), "-o", "b.png", "--theory")
    assert (answer.stdout, answer.stderr) == ("b.png\n", "")
    assert (here / "a.png").read_bytes() != (here / "b.png").read_bytes()


def test_plot_names_the_curves_that_have_no_theory(here: Path) -> None:
    for options in ([], ["--optimizer", "adam"]):
        gives(*MSE, "-m", "zero_grad", *options, "--out", str(here / f"mse{len(options)}"))
    answer = gives("plot", str(here / "mse0"), str(here / "mse2"), "-o", "a.png", "--theory")
    assert answer.stdout == "a.png\n"
    assert answer.stderr == "No theory for zero_grad, optimizer Adam: the optimizer is Adam, not plain SGD\n"


def test_plot_without_any_theory_writes_nothing(trained: Path) -> None:
    answer = gives("plot", str(trained), "-o", "a.png", "--theory", exit_status=2)
    assert answer.stderr == (
        "No theory to draw: an epoch has several batches\n"
        "Theory needs full batches, squared error and plain SGD; try gradlab run straight_line_mse\n"
    )
    assert not Path("a.png").exists()


def test_plot_takes_a_run_an_experiment_or_several(trained: Path) -> None:
    run = min(trained.glob("*/*/run.json")).parent
    for folders in ([run], [trained / "noisy_line"], [run, trained]):
        gives("plot", *map(str, folders), "-o", "a.png")


@pytest.mark.usefixtures("files")
def test_plot_of_a_run_without_rows_is_a_fault_of_one_line() -> None:
    gives("run", "--task", "own.py:raises", "-m", "zero_grad", exit_status=1)
    assert gives("plot", exit_status=2).stderr == "Nothing to draw: the runs have no rows yet.\n"


# Groups of runs

TWO_STEPS = ["run", "--task", "noisy_line", "--steps", "2", "-m", "zero_grad", "--quiet"]
COUNTED = (
    "Not shown: 1 run in runs/noisy_line with other settings, or copies. "
    "To use them, pass their folders, which `gradlab list --json` lists.\n"
)


def test_run_reports_what_it_was_asked_for_and_show_the_group() -> None:
    gives(*TWO_STEPS, *(f"--seed={seed}" for seed in range(10, 20)))
    answer = document(*TWO_STEPS, "--seed", "9")
    assert [run["seed"] for run in answer["runs"]] == [9]
    assert [run["seed"] for run in document("show", "runs/noisy_line")["runs"]] == list(range(9, 20))


@pytest.mark.parametrize("command", ["show", "plot", "export"])
def test_runs_with_other_settings_are_counted_in_one_line(command: str) -> None:
    gives(*TWO_STEPS, "--lr", "0.02")
    gives(*TWO_STEPS)
    assert gives(command, "runs/noisy_line").stderr == COUNTED


def test_runs_given_by_their_folders_are_all_that_is_shown() -> None:
    for lr in ("0.02", "0.01"):
        gives(*TWO_STEPS, "--lr", lr)
    folders = [str(file.parent) for file in sorted(Path("runs").glob("*/*/run.json"))]
    assert gives("show", folders[0]).stderr == ""
    answer = gives("export", *folders)
    assert (len(answer.stdout.splitlines()), answer.stderr) == (1 + 2 * 2, "")


def test_the_line_on_other_runs_names_the_folder_that_list_takes() -> None:
    gives(*TWO_STEPS, "--lr", "0.02", "--out", "a b/c")
    gives(*TWO_STEPS, "--out", "a b/c")
    said = gives("show", "a b/c").stderr
    assert "1 run in a b/c/noisy_line with other settings, or copies. To use them" in said
    assert "`gradlab list --out 'a b/c' --json`" in said


def test_after_a_run_that_was_done_its_group_is_shown_and_drawn() -> None:
    for lr in ("0.02", "0.01", "0.02"):
        gives(*TWO_STEPS, "--lr", lr, "--plot", f"{lr}.svg")
    assert "optimizer: name SGD, lr 0.02" in gives("show", "runs").stdout
    gives("plot", "-o", "a.svg")
    assert Path("a.svg").read_bytes() == Path("0.02.svg").read_bytes()


def test_the_experiment_asked_for_last_is_the_newest() -> None:
    for name in ("a", "b", "a"):
        gives(*TWO_STEPS, "--set", f"name={name}")
    assert document("show", "runs")["experiment"] == "a"


# list, show, export


def test_list_has_every_run(trained: Path) -> None:
    answer = gives("list", "--out", str(trained))
    lines = answer.stdout.splitlines()
    assert lines[0].split() == ["experiment", "mode", "seed", "lr", "status", "rows", "started"]
    assert sorted(tuple(line.split()[:6]) for line in lines[1:]) == sorted(
        ("noisy_line", mode, seed, "0.01", "done", "4")
        for mode in ("zero_grad", "no_zero_grad", "halve_grad")
        for seed in "12"
    )


def test_list_has_the_rows_so_far_of_a_run_that_is_not_done(here: Path) -> None:
    folder = min(here.glob("runs/*/*/"))
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"status": "running", "rows": None}))
    log = folder / "metrics.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:3]))
    (line,) = [line.split() for line in gives("list").stdout.splitlines() if "interrupted" in line]
    assert line[:6] == ["noisy_line", record["mode"], str(record["seed"]), "0.01", "interrupted", "3"]


def test_list_has_the_rows_so_far_of_a_run_that_is_running(here: Path) -> None:
    folder = RunFolder(min(here.glob("runs/*/*/")))
    record = folder.read()
    folder.write(replace(record, status="running", rows=None))
    with folder.log(keep=3):
        (line,) = [line.split() for line in gives("list").stdout.splitlines() if "running" in line]
    assert line[:6] == ["noisy_line", record.mode, str(record.seed), "0.01", "running", "3"]


def test_list_json_has_exactly_its_keys(trained: Path) -> None:
    answer = document("list", "--out", str(trained))
    assert set(answer) == {"runs"}
    assert len(answer["runs"]) == 6
    keys = {"experiment", "mode", "seed", "status", "rows", "started", "seconds", "folder"}
    assert all(set(run) == keys for run in answer["runs"])


def test_list_without_runs_says_so_on_stderr() -> None:
    answer = gives("list")
    assert answer.stdout == ""
    assert answer.stderr == "No runs under runs. `gradlab run` trains some.\n"


def test_list_without_runs_is_an_empty_list_in_json() -> None:
    assert document("list") == {"runs": []}


def test_show_prints_settings_and_results(trained: Path) -> None:
    lines = gives("show", str(trained)).stdout.splitlines()
    assert lines[0] == "noisy_line"
    text = "\n".join(lines)
    for word in ("task: noisy_line", "optimizer: name SGD, lr 0.01", "epochs: 2", "torch", "median of 2 seeds"):
        assert word in text
    for mode in ("zero_grad", "no_zero_grad", "halve_grad"):
        assert re.search(rf"^ *{mode} ", text, re.MULTILINE)


def test_show_json_of_one_run_has_exactly_the_keys_of_run(trained: Path) -> None:
    folder = min(trained.glob("*/*/run.json")).parent
    answer = document("show", str(folder))
    assert set(answer) == {"experiment", "folder", "runs"}
    (run,) = answer["runs"]
    assert set(run) == RUN_KEYS
    assert (run["folder"], run["cached"]) == (str(folder), True)


def test_export_writes_every_row_with_the_agreed_columns_first(trained: Path) -> None:
    answer = gives("export", str(trained), "--to", "csv")
    assert answer.stderr == ""
    rows = list(csv.reader(answer.stdout.splitlines()))
    assert rows[0][:7] == ["experiment", "mode", "seed", "step", "update", "epoch", "loss"]
    assert len(rows) == 1 + 6 * 4


def test_export_gives_the_losses_exactly(trained: Path) -> None:
    folder = min(trained.glob("*/*/run.json")).parent
    logged = [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = csv.DictReader(gives("export", str(folder)).stdout.splitlines())
    assert [float(row["loss"]) for row in rows] == logged


def test_export_writes_to_a_file_what_it_would_print(trained: Path) -> None:
    assert gives("export", str(trained), "-o", "rows.csv").output == ""
    assert Path("rows.csv").read_bytes().decode() == gives("export", str(trained)).stdout


# modes, tasks, experiments


@pytest.mark.parametrize(
    ("command", "names"),
    [("modes", list(WORDS)), ("tasks", [*BUILT_IN, "FILE.py:NAME"]), ("experiments", list(experiments.shipped()))],
)
def test_a_list_of_words_names_each_with_its_meaning(command: str, names: list[str]) -> None:
    text = gives(command).stdout
    assert all(name in text for name in names)
    answer = document(command)
    assert set(answer) == {command}
    assert [each["name"] for each in answer[command]] == names
    assert all(set(each) == {"name", "what"} and each["what"] for each in answer[command])


def test_tasks_lists_the_options_of_each() -> None:
    text = " ".join(gives("tasks").stdout.split())
    assert "inputs=1, samples=40, batch_size=1, noise=1.0" in text


@pytest.mark.parametrize("name", list(experiments.shipped()))
def test_experiments_prints_toml_that_can_be_run(name: str) -> None:
    Path("copy.toml").write_text(gives("experiments", name).stdout)
    assert experiments.load("copy.toml").modes == experiments.load(name).modes


# Other


def test_version_is_that_of_the_package() -> None:
    assert gives("--version").stdout == f"gradlab {gradlab.__version__}\n"


def test_what_a_task_prints_goes_to_stderr() -> None:
    Path("loud.py").write_text(
        "import torch\nfrom gradlab import Task\n"
        "def loud(seed: int) -> Task:\n"
        "    print('hello from the task')\n"
        "    batch = (torch.ones(1, 1), torch.ones(1, 1))\n"
        "    return Task.supervised(torch.nn.Linear(1, 1), [batch], torch.nn.MSELoss())\n"
    )
    answer = CliRunner().invoke(app, ["run", "--task", "loud.py:loud", "--epochs", "2", "--json"])
    assert json.loads(answer.stdout)["experiment"] == "loud"
    assert "hello from the task" in answer.stderr


def test_one_error_of_all_runs_is_printed_once() -> None:
    Path("wrong.py").write_text("def wrong(seed: int) -> object:\n    return undefined\n")
    answer = CliRunner().invoke(app, ["run", "--task", "wrong.py:wrong", "-q"])
    assert answer.exit_code == 1
    assert answer.stderr.count("NameError") == 1
    assert "zero_grad seed 42, no_zero_grad seed 42, halve_grad seed 42 failed" in answer.stderr


def test_a_folder_given_twice_counts_once() -> None:
    assert CliRunner().invoke(app, ["run", "--task", "straight_line", "--epochs", "2", "-q"]).exit_code == 0
    once = CliRunner().invoke(app, ["export", "runs/straight_line"]).stdout
    assert CliRunner().invoke(app, ["export", "runs/straight_line", "runs/straight_line"]).stdout == once


def test_files_among_the_folders_of_a_glob_are_ignored() -> None:
    assert CliRunner().invoke(app, ["run", "--task", "straight_line", "--epochs", "2", "-q"]).exit_code == 0
    inside = sorted(map(str, Path("runs/straight_line").iterdir()))
    assert CliRunner().invoke(app, ["plot", *inside, "-o", "all.png"]).exit_code == 0
    assert Path("all.png").exists()


# Pictures on a terminal


def on_screen(monkeypatch: pytest.MonkeyPatch, *words: str, columns: int = 80, **environment: str) -> str:
    """Return what a command writes to a terminal, which the test's own output stands for."""
    monkeypatch.setattr("gradlab.cli.run_results._on_terminal", lambda: True)
    for name, value in ({"COLUMNS": str(columns), "TERM": "xterm"} | environment).items():
        monkeypatch.setenv(name, value)
    return gives(*words).stdout


def has_braille(text: str) -> bool:
    return any(0x2800 < ord(char) < 0x2900 for char in text)


@pytest.mark.usefixtures("here")
def test_show_and_run_draw_the_curves_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["show", "runs"], [*LINE, "--seed", "1"]):
        text = on_screen(monkeypatch, *words)
        assert has_braille(text)
        assert "training loss per epoch" in text
        assert not has_braille(on_screen(monkeypatch, *words, "--no-plot"))


@pytest.mark.parametrize("words", [["show", "--json"], ["show"]], ids=["json", "pipe"])
def test_no_curves_are_drawn_for_programs(words: list[str], trained: Path) -> None:
    assert not has_braille(gives(*words, str(trained)).stdout)


def test_a_narrow_terminal_has_no_curves(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_braille(on_screen(monkeypatch, "show", str(trained), columns=59))
    assert has_braille(on_screen(monkeypatch, "show", str(trained), columns=60))


@pytest.mark.parametrize("terminal", ["dumb", "linux"])
def test_a_terminal_without_braille_has_ascii(terminal: str, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = on_screen(monkeypatch, "show", str(trained), TERM=terminal)
    assert not has_braille(text)
    assert "* zero_grad" in text


@pytest.mark.usefixtures("here")
def test_a_quiet_run_draws_no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_braille(on_screen(monkeypatch, *LINE, "--seed", "1", "--quiet"))
