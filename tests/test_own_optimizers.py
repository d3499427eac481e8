"""Your own optimizer: found, checked, hashed, trained by loop and stack, swept, shipped and resumed."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import gradlab
from gradlab import modes, optimizers, runs, signatures, sweeps
from gradlab.annotations import wanted_kind
from gradlab.cli import app
from gradlab.engines import ensemble
from gradlab.errors import ExperimentError, GradlabError, OptimizerError
from gradlab.experiment import identity, load
from gradlab.sweeps import cells, grid_of, shipping
from tests.making import RecordingProgress
from tests.own_code import SOURCE, chosen, continued, done, overrides, rates_of, rows_of, stop_after

LION = "mine.py:Lion"


def build(name: str, options: dict[str, Any], *parameters: nn.Parameter) -> Any:
    Path("mine.py").write_text(SOURCE)
    return optimizers.build(optimizers.find(f"mine.py:{name}"), parameters, options)


def grid(*vary: str, engine: str = "ensemble", task: str = "net", **more: Any) -> sweeps.Grid:
    Path("mine.py").write_text(SOURCE)
    values = {"optimizer__name": LION, "steps": 6, "seeds": [1, 2], **more}
    made = gradlab.experiment.from_task(f"mine.py:{task}", overrides(values), "sweep")
    return grid_of(made, vary, engine=engine)


# Training


def test_an_update_of_lion_moves_a_weight_by_lr_and_its_decay() -> None:
    decay = {"optimizer__lr": 0.1, "optimizer__weight_decay": 0.5}
    (rows,) = rows_of(chosen(optimizer__name=LION, **decay))
    weight, expected = 0.0, []
    for _ in range(20):
        expected.append(weight)
        weight = weight * (1 - 0.1 * 0.5) - 0.1  # the gradient is 1, and so is its sign
    assert [row.loss for row in rows] == pytest.approx(expected, rel=1e-12)


def test_a_schedule_sets_the_lr_of_your_optimizer() -> None:
    (rows,) = rows_of(chosen(optimizer__name=LION, schedule="StepLR", schedule__step_size=1, schedule__gamma=0.5))
    assert rates_of(rows) == pytest.approx([0.5 * 0.5 ** (step // 5) for step in range(19)], rel=1e-12)


def test_results_name_its_file_and_the_hash_of_its_source() -> None:
    experiment = chosen(optimizer__name=LION, optimizer__betas=[0.5, 0.9])
    (run,) = runs.run(experiment).runs
    record = gradlab.store.RunFolder(run.folder).read()
    assert record.settings["optimizer"] == {"name": LION, "lr": 0.5, "betas": [0.5, 0.9]}
    assert record.settings["optimizer_source"] == record.settings["task_source"]  # of the same file
    shown = CliRunner().invoke(app, ["show", str(run.folder)]).stdout
    assert "  optimizer: name mine.py:Lion, lr 0.5, betas [0.5, 0.9]\n" in shown


def test_an_edited_optimizer_is_another_run() -> None:
    def found() -> str:
        experiment = gradlab.experiment.from_task("noisy_line", overrides({"optimizer__name": LION}))
        return identity(experiment.settings(experiment.parsed_modes[0], 1))

    Path("mine.py").write_text(SOURCE)
    before = found()
    assert found() == before
    Path("mine.py").write_text(SOURCE + "# changed")
    assert found() != before


def test_a_file_finds_the_optimizer_beside_it() -> None:
    Path("deep").mkdir()
    Path("deep/mine.py").write_text(SOURCE)
    Path("deep/mine.toml").write_text(
        f'task = "mine.py:slope"\nsteps = 3\nmodes = ["zero_grad"]\n[optimizer]\nname = "{LION}"\nlr = 0.25\n'
    )
    (rows,) = done(runs.run(load("deep/mine.toml")))
    assert [row.loss for row in rows] == [0.0, -0.25, -0.5]


def test_a_module_in_a_package_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("owned").mkdir()
    Path("owned/lions.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(Path.cwd())
    with pytest.raises(OptimizerError, match=r"optimizer 'owned.lions:Lion': unknown option 'beta'"):
        chosen(optimizer__name="owned.lions:Lion", optimizer__beta=1)
    (rows,) = rows_of(chosen(optimizer__name="owned.lions:Lion", steps=3))
    assert [row.loss for row in rows] == [0.0, -0.5, -1.0]


def test_the_examples_of_the_documentation_run() -> None:
    text = (Path(__file__).parents[1] / "docs/optimizers.md").read_text(encoding="utf-8")
    blocks = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    assert len(blocks) == 2
    Path("mine.py").write_text("\n".join(blocks))
    commands = [line.split()[1:] for line in text.splitlines() if line.startswith("    gradlab run")]
    assert len(commands) == 3
    for words in commands:
        found = CliRunner().invoke(app, [*words, "--epochs", "2", "--json"])
        assert found.exit_code == 0, found.output
        assert [run["status"] for run in json.loads(found.stdout)["runs"]] == ["done"] * 3


# Stacks


@pytest.mark.parametrize("name", ["Lion", "Decaying"])
def test_stacked_runs_equal_those_of_the_loop(name: str) -> None:
    more: dict[str, Any] = {"modes": ["zero_grad", "no_zero_grad", "accumulate:2"], "seeds": [1, 2]}
    more |= {"optimizer__name": f"mine.py:{name}", "optimizer__lr": 0.01}
    alone = rows_of(chosen("net", **more), "alone")
    progress = RecordingProgress()
    stacked = done(runs.run(chosen("net", engine="ensemble", **more), Path("stacked"), progress=progress))
    reason = "trained sequentially by the plain loop: its optimizer's update of a weight depends on other weights"
    assert progress.messages == ([] if name == "Lion" else [reason])
    for one, other in zip(alone, stacked, strict=True):
        assert [row.loss for row in one] == pytest.approx([row.loss for row in other], rel=1e-10)


@pytest.mark.parametrize(
    ("name", "elementwise"), [("Lion", True), ("Deaf", True), ("Scaled", False), ("Noisy", False), ("Decaying", False)]
)
def test_the_rehearsal_finds_what_looks_at_several_weights(name: str, elementwise: bool) -> None:
    Path("mine.py").write_text(SOURCE)
    made = partial(optimizers.build, optimizers.find(f"mine.py:{name}"), options={"lr": 0.1})
    assert (ensemble.unstackable_reason(modes.zero_grad(), made) == "") == elementwise


# Resuming


@pytest.mark.parametrize(("name", "engine"), [("Lion", "loop"), ("Lion", "ensemble"), ("Noisy", "loop")])
def test_a_stopped_run_continues_bit_for_bit(name: str, engine: str) -> None:
    words = ["zero_grad", "halve_grad"] if engine == "ensemble" else ["zero_grad"]
    experiment = chosen("net", optimizer__name=f"mine.py:{name}", optimizer__lr=0.01, modes=words, engine=engine)
    expected = rows_of(experiment, "whole")
    for step in (1, 6, 8):
        stop_after(experiment, step, f"stopped{step}")
        assert continued(experiment, step, f"stopped{step}") == expected


# Sweeps


def column(chosen_grid: sweeps.Grid, out: str, **more: Any) -> tuple[list[Any], sweeps.SweepResult]:
    outcome = sweeps.run(chosen_grid, Path(out), **more)
    assert outcome.ended
    assert outcome.errors == {}
    return outcome.folder.results().column("last_loss", outcome.record.runs), outcome


def test_a_sweep_trains_each_point_like_a_run_of_its_own() -> None:
    vary = ("lr=0.01,0.1", "optimizer.weight_decay=0,0.5", "schedule.step_size=1,2")
    more: dict[str, Any] = {"schedule": "StepLR", "modes": ["zero_grad", "halve_grad"]}
    found, outcome = column(grid(*vary, **more), "sweep", workers=1)
    assert outcome.by_loop == {}
    expected = []
    for lr in (0.01, 0.1):
        for decay in (0, 0.5):
            for size in (1, 2):
                single = chosen("net", optimizer__name=LION, optimizer__lr=lr, optimizer__weight_decay=decay,
                                schedule="StepLR", schedule__step_size=size, steps=6, seeds=[1, 2],
                                modes=["zero_grad", "halve_grad"])  # fmt: skip
                expected += [rows[-1].loss for rows in rows_of(single)]
    assert found == pytest.approx(expected, rel=1e-10)


def test_processes_and_this_one_give_the_same_results() -> None:
    swept = grid("lr=0.01,0.1", "optimizer.name=mine.py:Lion,adam", schedule="mine.py:warmup", schedule__steps=1,
                 modes=["zero_grad"])  # fmt: skip
    one, _ = column(swept, "one", workers=1, chunk=4)
    two, _ = column(swept, "two", workers=2, chunk=4)
    assert one == two
    assert len(set(one)) == 8


def test_an_optimizer_that_ignores_its_groups_is_not_joined() -> None:
    for name, joins in (("Deaf", False), ("Lion", True)):
        builds = [partial(build, name, {"lr": lr}) for lr in (0.1, 0.2)]
        made = [lambda parameters, each=each: each(*parameters) for each in builds]
        assert ensemble.can_join(made) == joins
    deaf: dict[str, Any] = {"optimizer__name": "mine.py:Deaf", "task": "slope", "modes": ["zero_grad"]}
    found, outcome = column(grid("lr=0.1,0.2", **deaf), "runs", workers=1)
    assert outcome.by_loop == {}
    assert found == pytest.approx([-0.5, -0.5, -1.0, -1.0])  # five updates of lr


def test_the_sources_of_all_varied_optimizers_decide_a_sweep() -> None:
    def found() -> str:
        return identity(sweeps.settings_of(grid_of(made, ("optimizer.name=sgd,other.py:Lion",))))

    made = gradlab.experiment.from_task("noisy_line")
    Path("other.py").write_text(SOURCE)
    before = found()
    Path("other.py").write_text(SOURCE + "# changed")
    assert found() != before


def test_a_cell_trains_where_the_users_files_are_not() -> None:
    vary = ("optimizer.name=mine.py:Lion,mine.py:Averaged", "schedule.name=linear,mine.py:warmup")
    Path("mine.py").write_text(SOURCE)
    with pytest.raises(OptimizerError, match=r"schedule 'mine.py:warmup' needs the option steps"):
        grid(*vary, engine="loop")
    Path("mine.py").write_text(SOURCE.replace("steps: int,", "steps: int = 1,"))
    made = gradlab.experiment.from_task("mine.py:net", overrides({"steps": 6, "schedule": "mine.py:warmup"}))
    swept = grid_of(made, vary, engine="loop")
    cell = cells.cell_of(swept, range(swept.runs))
    here = sweeps.train_cell(cell)
    shipment = pickle.loads(pickle.dumps(shipping.shipper(swept)(cell)))  # noqa: S301 - ours
    Path("mine.py").unlink()
    there = shipping.train_shipment((shipment, Path("elsewhere")), lambda *_: None)
    assert there == here
    assert len(set(here.last_loss)) == 12  # 2 optimizers, 2 schedules, 3 modes


def test_a_worker_with_another_optimizer_in_a_module_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("of_lions.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(Path.cwd())
    swept = grid("lr=0.1,0.2", optimizer__name="of_lions:Lion")
    shipment = shipping.shipper(swept)(cells.cell_of(swept, range(swept.runs)))
    Path("of_lions.py").write_text(SOURCE + "# changed")
    with pytest.raises(OptimizerError, match=r"optimizer 'of_lions:Lion' differs between a worker and this machine"):
        shipping.train_shipment((shipment, Path("elsewhere")), lambda *_: None)


# Mistakes

FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"name": "nosuch.py:Lion"}, "optimizer 'nosuch.py:Lion': no file nosuch.py"),
    ({"name": "mine.py:"}, "optimizer 'mine.py:': expected a class name after the colon, got ''"),
    ({"name": "mine.py:warmup"}, "warmup is a function, not a class derived from torch.optim.Optimizer"),
    ({"name": LION, "beta": 1}, "optimizer 'mine.py:Lion': unknown option 'beta'; did you mean 'betas'? Known: betas"),
    ({"name": LION, "betas": 0.9}, "optimizer 'mine.py:Lion': option betas must be a list of 2 numbers, got 0.9"),
    ({"name": "mine.py:Scaled", "weight_decay": "a"}, "option weight_decay must be a number, got 'a'"),
    ({"name": "mine.py:Fixed", "momentum": 1}, "mine.py:Fixed' must take lr: def __init__(self, params, lr, …)"),
    ({"name": "mine.py:Options"}, "optimizer 'mine.py:Options' needs the option rho: --set optimizer.rho=…"),
    ({"name": "mine.py:Options", "rho": 1, "levels": [0.5]}, "levels must be a list of integers, got [0.5]"),
    ({"name": "mine.py:Options", "rho": "x"}, "option rho must be a number, got 'x'"),
]


@pytest.mark.parametrize(("options", "message"), FAULTS, ids=lambda each: str(each)[:60])
def test_a_mistake_is_found_in_the_experiment(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GradlabError) as raised:
        chosen(**{f"optimizer__{key}": value for key, value in options.items()})
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "found"), [(torch.nn.Linear, "Linear is another class"), (len, "len is a builtin_function_or_method")]
)
def test_a_given_object_that_is_no_optimizer_is_refused(given: Any, found: str) -> None:
    with pytest.raises(OptimizerError, match=f": {found}, not a class derived from torch.optim.Optimizer$"):
        gradlab.run("noisy_line", optimizer=given, out=None, quiet=True)


def test_what_an_optimizer_takes_besides_is_left_to_it() -> None:
    taken = {"optimizer__rho": 1, "optimizer__whatever": "x", "optimizer__kind": "b"}
    assert chosen(optimizer__name="mine.py:Options", **taken).optimizer.options["whatever"] == "x"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"name": "mine.py:lion"},
            r"unknown class in .*mine.py: 'lion'; did you mean 'Lion'\? Known: ((?!warmup).)*$",
        ),
        ({"name": "mine.py:NoOptimizer"}, "NoOptimizer is another class, not a class derived from torch.optim.Opt"),
        ({"name": "mine.py:math"}, "math is a module, not a class"),
        ({"name": "mine.py:Stepless"}, r"Stepless does not define step. Add def step\(self\)."),
        ({"name": "mine.py:Closing"}, r"step of Closing needs arguments. gradlab calls step\(\) without any."),
        ({"name": "mine.py:Averaged", "beta": 1}, "'mine.py:Averaged': unknown option 'beta'; did you mean 'betas'"),
        ({"name": LION, "weight_decay": -1}, r"optimizer 'mine.py:Lion': weight_decay is negative: -1\n.*mine.py:\d+"),
        ({"name": "torch.optim:LBFGS"}, "optimizer 'torch.optim:LBFGS' is not supported: it evaluates the loss sev"),
    ],
    ids=lambda each: str(each)[:60],
)
def test_what_the_source_does_not_show_is_reported_by_the_run(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptimizerError, match=message) as raised:
        runs.run(chosen(**{f"optimizer__{key}": value for key, value in options.items()}))
    assert len(str(raised.value).splitlines()) <= 2
    assert not list(Path("runs").glob("*/*"))


def test_a_broken_file_is_reported_with_its_line() -> None:
    Path("torn.py").write_text("import torch\nclass Lion(torch.optim.Optimizer:\n")
    made = gradlab.experiment.from_task("noisy_line", overrides({"optimizer__name": "torn.py:Lion"}))
    with pytest.raises(OptimizerError, match=r"optimizer 'torn.py:Lion' cannot be imported\n.*torn.py:2: SyntaxError"):
        runs.run(made)


def test_mistakes_are_found_without_importing_torch_or_the_file() -> None:
    Path("mine.py").write_text(SOURCE + "\nraise RuntimeError")
    code = """
import sys
from gradlab.errors import GradlabError
from gradlab.experiment import Override, from_task
keys = {("optimizer", "name"): "mine.py:Lion", ("optimizer", "beta"): 1, ("schedule", "name"): "mine.py:warmup"}
try:
    from_task("noisy_line", [Override(key, value, "") for key, value in keys.items()])
except GradlabError as error:
    print(len(str(error).splitlines()), "torch" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "2 False\n"


def test_options_that_a_sweep_lacks_too_are_reported_by_it() -> None:
    swept = grid("optimizer.rho=1,2", optimizer__name="mine.py:Options")
    assert [axis.values for axis in swept.axes] == [(1, 2)]
    with pytest.raises(OptimizerError, match=r"--vary lr: optimizer 'mine.py:Options' needs the option rho"):
        grid("lr=1,2", optimizer__name="mine.py:Options")


def test_match_lr_and_tensorflow_refuse_an_unknown_step() -> None:
    with pytest.raises(ExperimentError, match=r"such as sgd; the step of mine.py:Lion is not known to be that"):
        chosen(optimizer__name=LION, match_lr=True)
    with pytest.raises(OptimizerError, match=r"supports only SGD and vanilla .*; it does not support mine.py:Lion"):
        chosen(optimizer__name=LION, engine="tensorflow")


def test_an_optimizer_in_a_file_without_a_name_gets_a_hint() -> None:
    with pytest.raises(OptimizerError, match=r"unknown optimizer 'lion.py'.*\n.*write lion.py:CLASS"):
        optimizers.find("lion.py")


# Objects from Python


class Signs(torch.optim.Optimizer):
    """Moves every weight by lr."""

    def __init__(self, params: Any, lr: float, power: int = 1) -> None:
        super().__init__(params, {"lr": lr, "power": power})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for w in group["params"]:
                w.sub_(group["lr"] ** group["power"] * w.grad.sign())


class SGD(Signs):
    """Has the name of another."""


def halving(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)


def slope(seed: int) -> gradlab.Task:  # noqa: ARG001 - tasks take it
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    return gradlab.Task(model, [torch.ones(1)] * 2, lambda model, _: model.weight.sum())


def ran(**more: Any) -> Any:
    return gradlab.run(slope, modes="zero_grad", steps=5, lr=0.5, quiet=True, **more)


def test_a_class_and_a_function_are_given_as_objects() -> None:
    found = ran(optimizer=Signs, schedule=halving)
    assert found.runs[0].losses.tolist() == [0.0, -0.5, -1.0, -1.25, -1.5]
    found = ran(optimizer={"name": Signs, "power": 2}, schedule={"name": halving, "every": "update"})
    assert found.runs[0].losses.tolist() == [0.0, -0.25, -0.3125, -0.328125, -0.33203125]
    assert ran(optimizer={"name": Signs, "power": 2}, schedule={"name": halving, "every": "update"}).runs[0].cached
    found = ran(optimizer=torch.optim.SGD, schedule=torch.optim.lr_scheduler.ConstantLR)
    assert found.runs[0].losses[1] == pytest.approx(-0.5 / 3)


def test_your_own_class_is_named_apart_from_that_of_torch() -> None:
    ran(optimizer=SGD)
    (record,) = (gradlab.store.RunFolder(each.parent).read() for each in Path("runs").glob("*/*/run.json"))
    assert record.settings["optimizer"]["name"] == "SGD of your own"


def test_mistakes_with_objects_are_reported_like_others() -> None:
    with pytest.raises(OptimizerError, match=r"optimizer 'Signs': unknown option 'powr'; did you mean 'power'"):
        ran(optimizer={"name": Signs, "powr": 2})
    with pytest.raises(OptimizerError, match=r"optimizer 'halving': halving is a function, not a class"):
        ran(optimizer=halving)
    with pytest.raises(ExperimentError, match=r"workers=2 needs code that other processes can import, not an object"):
        gradlab.sweep("noisy_line", optimizer=Signs, vary={"lr": [0.1, 0.2]}, workers=2)


def test_a_sweep_takes_objects_in_this_process() -> None:
    found = gradlab.sweep(slope, optimizer=Signs, modes="zero_grad", steps=3, vary={"lr": [0.25, 0.5]}, quiet=True)
    assert sorted(row["last_loss"] for row in found.rows) == [-1.0, -0.5]


# The source


def test_options_are_read_from_the_source_like_from_the_class() -> None:
    Path("mine.py").write_text(SOURCE)
    found: dict[str, Any] = {}
    exec(SOURCE, found)  # noqa: S102 - ours
    for name in ("Lion", "Scaled", "Fixed", "Options", "Stepless", "warmup", "slope"):
        read, real = signatures.options_in(Path("mine.py"), name), signatures.options_of(found[name])
        assert read is not None
        assert real is not None
        assert read == real
    assert signatures.options_in(Path("mine.py"), "Averaged") is None  # inherited from torch
    assert signatures.options_in(Path("mine.py"), "nosuch") is None
    assert signatures.options_in(Path("nosuch.py"), "Lion") is None


@pytest.mark.parametrize(
    ("annotation", "value", "wanted"),
    [
        ("int | float", 0.5, None),
        ("int | float", "x", "a number"),
        ("bool | str", 3, "true or false or a string"),
        ("Iterable[int]", [1, 2], None),
        ("list[str] | None", ["a", 1], "a list of strings"),
        ("list[Tensor]", ["a", 1], None),
        ("Literal['cos', 'linear']", "cos", None),
        ("Literal['cos', 'linear']", "sin", "cos or linear"),
        ("Literal[Kind.COS]", "sin", None),
        ("Literal[1, 2]", 1, None),
        ("Literal[1, 2]", True, "1 or 2"),
        ("Literal['a', None] | int", "b", "a or an integer"),
        ("float | Literal['auto']", 0.1, None),
        ("float | Literal['auto']", "x", "a number or auto"),
        ("tuple[float, ...]", [1, 2, 3], None),
        ("tuple[float, ...]", ["x"], "a list of numbers"),
        ("tuple[str, str]", ["a", "b"], None),
        ("tuple[str, float]", [1, "a"], "a list of 2 values: a string, a number"),
        ("Tuple[float | None, Widget]", [0.1], "a list of 2 values: a number, any value"),
        ("tuple[float | None, float]", [None, 0.1], None),
        ("list[float] | float", 0.5, None),
        ("float | list[float]", [0.5], None),
        ("float | list[float]", "x", "a number or a list of numbers"),
        ("typing.Optional[typing.List[float]]", ["x"], "a list of numbers"),
        ("'int'", "x", "an integer"),
        ("int[", "x", None),
    ],
)
def test_values_are_compared_with_annotations(annotation: str, value: object, wanted: str | None) -> None:
    assert wanted_kind(annotation, value) == (wanted or "")


def test_a_missing_torch_is_reported_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(OptimizerError, match=r"^torch is not installed: pip install torch$"):
        signatures.torch_file("optim")


def test_no_option_can_be_read_from_what_is_decorated() -> None:
    Path("mine.py").write_text(
        "@some\ndef f(a, b):\n    pass\n\n@other\nclass C:\n    def __init__(self, a):\n        pass\n"
    )
    assert signatures.options_in(Path("mine.py"), "f") is None
    assert signatures.options_in(Path("mine.py"), "C") is None
    assert signatures.options_of(max) is None
