"""Arguments from Python: each mistake is a GradlabError that says what would work, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradlab
from gradlab import Task, tasks
from gradlab.annotations import misfit
from gradlab.errors import CompareError, ExperimentError, GradlabError, ModeError, OptimizerError, PlotError, TaskError


def my_task(seed: int, width: int = 2) -> Task:  # noqa: ARG001 - gradlab seeds the generators
    batches = [(torch.randn(3, width), torch.randn(3, 1)) for _ in range(4)]
    return Task.supervised(nn.Linear(width, 1), batches, nn.MSELoss())


def short(task: Any = my_task, **more: Any) -> Any:
    return gradlab.run(task, **{"modes": "zero_grad", "steps": 3, "quiet": True, **more})


def message_of(call: Any, *args: Any, **more: Any) -> str:
    """Return the message of the GradlabError that a call raises before it trains."""
    with pytest.raises(GradlabError) as raised:
        call(*args, **more)
    assert not list(Path().glob("runs/*"))
    return str(raised.value)


# Values and annotations


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("int | None", None), ("int", np.int64(3)), ("float", 3), ("float", np.float32(1)), ("bool", False),
        ("str | os.PathLike[str] | None", Path("x")), ("Sequence[int]", range(3)), ("Sequence[int]", np.ones(2)),
        ("Mapping[str, int | None]", {}), ("Unknown[int] | None", 3.5),
    ],
)  # fmt: skip
def test_a_value_fits_its_annotation(annotation: str, value: object) -> None:
    assert misfit(annotation, value) == ""


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        ("int | None", True, "an integer, got true"),  # as in a file
        ("int", 1.5, "an integer, got 1.5"),
        ("float", "3", "a number, got '3'"),
        ("bool", 1, "true or false, got 1"),
        ("str | os.PathLike[str] | None", b"x", "a string or a path, got b'x'"),
        ("int | Sequence[int]", "ab", "an integer or a list of integers, got 'ab'"),
        ("Mapping[str, int | None]", [], "a dict, got []"),
    ],
)
def test_a_value_that_does_not_fit_is_named(annotation: str, value: object, words: str) -> None:
    assert misfit(annotation, value) == words
    assert misfit("int", 0, least=1) == "at least 1, got 0"
    assert misfit("float", float("nan"), least=0) == "at least 0, got nan"


# run


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"modes": 3}, "expected a mode's word or a Mode, got an int: 3"),
        ({"modes": True}, "expected a mode's word or a Mode, got a bool"),
        ({"modes": []}, "modes is empty: name a mode or several"),
        ({"mode": [], "modes": None}, "modes is empty"),
        ({"modes": [my_task]}, "write a function of your own to a file, and pass 'FILE.py:NAME'"),
        ({"mode": "zero_grad", "modes": "halve_grad"}, "mode and modes exclude each other"),
        ({"modes": "zero_grad,halve_grad"}, 'For several modes, use modes=["A", "B"].'),
        ({"out": 5}, "out must be a string or a path, got 5"),
        ({"out": True}, "out must be a string or a path, got True"),
        ({"out": b"x"}, "out must be a string or a path, got b'x'"),
        ({"fresh": "yes"}, "fresh must be true or false, got 'yes'"),
        ({"steps": "3"}, "steps must be an integer, got '3'"),
        ({"task_options": {3: 4}}, "keys must be strings, got 3"),
        ({"task_options": 3}, "task_options must be a"),
        ({"task_options": {"depth": 3}}, "unknown option 'depth'"),
    ],
)
def test_mistakes_of_run_are_named(given: dict[str, Any], message: str) -> None:
    assert message in message_of(short, **given)


def test_a_model_is_no_task() -> None:
    for call in (gradlab.run, gradlab.sweep, lambda model: gradlab.run("noisy_line", task=model)):
        said = message_of(call, nn.Linear(1, 1))
        assert said.startswith("expected a Task, got a model: a Linear\nmake one: gradlab.Task.supervised(model,")
    assert message_of(gradlab.run, task=3).startswith("expected an experiment or a task, got an int: 3")


def test_an_empty_name_is_not_the_default_experiment() -> None:
    assert message_of(gradlab.run, "").startswith("The name of the experiment is empty. Shipped experiments: ")


def test_an_optimizer_object_is_refused_with_what_works() -> None:
    made = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    said = message_of(short, optimizer=made)
    assert said.startswith("optimizer must be a name such as 'adam', a class of torch.optim, or a dict with its")
    assert said.endswith("every run makes its own: optimizer=torch.optim.SGD, lr=0.1")
    assert short(optimizer=torch.optim.SGD, lr=0.1).ok


def test_a_mode_object_names_its_expectations() -> None:
    mode = gradlab.modes.rule(keep=0.5, every=2)
    result = short(modes=mode, expect={mode: {"steps": 3}})
    assert [(each.mode, each.ok) for each in result.expectations] == [("keep=0.5,every=2", True)]


def test_a_mode_begins_with_its_name() -> None:
    wrong: Any = 0.5
    with pytest.raises(ModeError, match=r"a Mode begins with its name, got 0.5; use gradlab.modes.rule"):
        gradlab.Mode(wrong, 4)


def test_out_may_begin_with_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    assert short(out="~/x").folder == folder / "home" / "x" / "my_task"
    assert not Path("~").exists()


def test_a_missing_option_is_named_as_in_python() -> None:
    def needs(seed: int, w: int) -> Task:
        return my_task(seed, w)

    with pytest.raises(TaskError, match=r"task 'needs' needs the option w: task_options=\{'w': …\}"):
        short(needs)


def test_integers_of_a_function_may_be_zero() -> None:
    def layered(seed: int, layers: int = 1) -> Task:
        return my_task(seed, layers + 2)

    assert short(layered, task_options={"layers": 0}, out=None).ok
    assert "option samples must be at least 1, got 0" in message_of(short, "noisy_line", task_options={"samples": 0})


# Task


def test_what_is_no_trainable_task_is_refused() -> None:
    wrong: Any = 3
    none: Any = None
    for made, message in [
        (Task.supervised(wrong, [1], nn.MSELoss()), "the Task: its model is an int, not a torch.nn.Module"),
        (Task.supervised(nn.Linear(1, 1), wrong, nn.MSELoss()), "the Task: its batches are an int"),
        (Task.supervised(nn.Linear(1, 1), [1], none), "the Task's criterion must be a function or a module, got None"),
        (Task(nn.Linear(1, 1), [1], none), "the Task's loss must be a function or a module, got None"),
        (Task.supervised(nn.LazyLinear(1), [1], nn.MSELoss()), "the Task: its model is lazy"),
    ]:
        assert message in message_of(short, made)


# sweep


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vary": ["lr=0:1:3"]}, "vary must be a dict, got ['lr=0:1:3']"),
        ({"vary": "lr=0:1:3"}, "vary must be a dict"),
        ({"vary": {3: [1]}}, "keys must be strings, got 3"),
        ({"vary": {"lrr": [1]}}, "vary['lrr']: unknown key 'lrr'"),
        ({"vary": {"lr": [None]}}, "vary['lr']"),
        ({"vary": {"seeds": 3}}, "vary['seeds']: seeds cannot vary; use seeds=N or seeds=[…]"),
        ({"vary": {"lr": []}}, "vary['lr'] has no values"),
        ({"vary": {}}, 'nothing varies: a sweep needs vary={"lr": "1e-3:4:33:log"} or [vary]'),
        ({"workers": "a"}, "workers must be an integer, got 'a'"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"workers": -1}, "workers must be at least 1, got -1"),
        ({"workers": 1.5}, "workers must be an integer, got 1.5"),
        ({"vary": {"keep": [0, 1]}, "modes": "zero_grad"}, "vary['keep'] sets the modes and cannot be combined with"),
    ],
)
def test_mistakes_of_sweep_are_named(given: dict[str, Any], message: str) -> None:
    assert message in message_of(
        gradlab.sweep, my_task, **{"vary": {"lr": [1, 2]}, "steps": 2, "quiet": True, **given}
    )


def test_values_of_an_axis_stay_what_they_are() -> None:
    vary = {"lr": np.array([0.1, 0.2]), "optimizer.betas": [(0.5, 0.9), (0.1, 0.2)], "task_options.samples": 3}
    found = gradlab.sweep("noisy_line", vary=vary, optimizer="adam", modes="zero_grad", steps=1, quiet=True)
    assert found.axes == {"lr": [0.1, 0.2], "optimizer.betas": [[0.5, 0.9], [0.1, 0.2]], "task_options.samples": [3]}


# compare


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_steps": "3"}, "max_steps must be an integer, got '3'"),
        ({"max_steps": 1.5}, "max_steps must be an integer, got 1.5"),
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"modes": 3}, "expected a mode's word or a Mode, got an int"),
        ({"modes": []}, "modes is empty"),
        ({"seeds": 1.5}, "seeds must be an integer or a list, got 1.5"),
        ({"seeds": True}, "seeds must be an integer or a list, got True"),
        ({"seeds": ["a"]}, "seeds must be between 0 and 4294967295, got 'a'"),
        ({"seeds": []}, "seeds must be between 0 and 4294967295, got none"),
        ({"args": None}, "args must be a string or a list, got None"),
        ({"jobs": "2"}, "jobs must be an integer, got '2'"),
        ({"timeout": "a"}, "timeout must be a number, got 'a'"),
        ({"script": "."}, "script '.' is a folder; give a file in it, or \"package.module\" with module=True"),
    ],
)
def test_mistakes_of_compare_are_named(given: dict[str, Any], message: str) -> None:
    Path("train.py").write_text("raise SystemExit(3)")
    assert message in message_of(gradlab.compare, **{"script": "train.py", **given})


def test_a_string_of_arguments_is_split_as_a_shell_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradlab.comparison import comparing

    class _AskedError(Exception):
        pass

    def asked(request: Any, *_: Any, **__: Any) -> Any:
        raise _AskedError(*request.args)

    monkeypatch.setattr(comparing, "compare", asked)
    Path("train.py").touch()
    given: list[Any] = ["--epochs 3 'a b'", ["--epochs", 3, "a b"]]
    found = []
    for args in given:
        with pytest.raises(_AskedError) as raised:
            gradlab.compare("train.py", args, quiet=True)
        found.append(raised.value.args)
    assert found == [("--epochs", "3", "a b")] * 2


# Results


def test_mistakes_of_plot_are_named() -> None:
    result = short()
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"width": 0}, "width must be at least 400, got 0"),
        ({"width": -5}, "width must be at least 400, got -5"),
        ({"width": "a"}, "width must be an integer, got 'a'"),
        ({"x": 3}, "x must be a string, got 3"),
        ({"theory": 1}, "theory must be true or false, got 1"),
    ]
    for given, message in mistakes:
        with pytest.raises(PlotError, match=message):
            result.plot(**given)
    assert result.plot(x="step", width=400).axes


def test_a_wrong_key_of_a_result_is_named() -> None:
    result = short()
    for key, message in [
        ((), r"write result\[mode\] or result\[mode, seed\], got \(\)"),
        (("zero_grad", 42, 3), r"got \('zero_grad', 42, 3\)"),
        (3, "got 3"),
        (("zero_grad", "42"), "mode 'zero_grad' has no seed '42'. Seeds: 42"),
    ]:
        with pytest.raises(GradlabError, match=message):
            result[key]
    assert result["zero_grad", np.int64(42)] is result.runs[0]


def test_a_result_contains_its_modes_and_runs() -> None:
    result = short()
    inside = ["zero_grad", "Zero-Grad", gradlab.modes.zero_grad(), ("zero_grad", 42), result.runs[0]]
    assert [each in result for each in inside] == [True] * 5
    assert [each in result for each in ["halve_grad", "nonsense", ("zero_grad", 1), 3, ()]] == [False] * 5


# train


def trained(task: Any = None, mode: Any = "zero_grad", optimizer: Any = None, **more: Any) -> Any:
    task = tasks.build(tasks.find("noisy_line"), 1, {}) if task is None else task
    optimizer = optimizer or torch.optim.SGD(task.model.parameters(), lr=0.01)
    return gradlab.train(task, mode, optimizer, **({"steps": 2} | more))


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"mode": "zero_gard"}, ModeError, "unknown mode 'zero_gard'"),
        ({"mode": 3}, ModeError, "expected a mode's word or a Mode, got an int"),
        (
            {"task": my_task, "optimizer": "sgd"},
            TaskError,
            "expected a gradlab.Task, got a function; for",
        ),
        (
            {"optimizer": "sgd"},
            OptimizerError,
            "expected an optimizer such as torch.optim.SGD(",
        ),
        ({"optimizer": torch.optim.SGD}, OptimizerError, "expected an optimizer such as"),
        ({"steps": "3"}, ExperimentError, "steps must be an integer, got '3'"),
        ({"steps": None}, ExperimentError, "training needs an end: give epochs=… or steps=…"),
    ],
)
def test_mistakes_of_train_are_found_at_the_call(given: dict[str, Any], kind: Any, message: str) -> None:
    with pytest.raises(kind) as raised:
        trained(**given)
    assert message in str(raised.value)


def test_an_optimizer_of_another_model_is_refused() -> None:
    other = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)
    with pytest.raises(OptimizerError, match="the optimizer has no parameter of the task's model"):
        trained(optimizer=other)


def test_train_loads_a_mode_of_the_users_file(folder: Path) -> None:
    (folder / "own.py").write_text("def clear(parameters, update):\n    for p in parameters: p.grad = None\n")
    mode = gradlab.modes.parse("own.py:clear")
    assert [row.loss for row in trained(mode=mode)] == [row.loss for row in trained()]


def test_errors_of_compare_have_its_type() -> None:
    with pytest.raises(CompareError):
        gradlab.compare("train.py", jobs=0)
