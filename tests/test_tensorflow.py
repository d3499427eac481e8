"""The tape: TensorFlow, given the same weights, batches and rule, has the losses of torch."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from gradlab import experiment as experiments
from gradlab import modes, optimizers, runs
from gradlab.cli import app
from gradlab.engines import tensorflow
from gradlab.engines.loop import train
from gradlab.errors import ExperimentError, GradlabError, TaskError
from gradlab.experiment import Experiment, Override, identity
from gradlab.tasks import Minibatches, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from gradlab.rows import Row

# One worker imports TensorFlow, which takes seconds; pytest-xdist heeds it with --dist loadgroup.
pytestmark = pytest.mark.xdist_group("tensorflow")


def needs_tensorflow(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs TensorFlow, which takes seconds to start."""
    missing = importlib.util.find_spec("tensorflow") is None
    installed = pytest.mark.skipif(missing, reason="TensorFlow is not installed: pip install '.[tensorflow]'")
    marked: Callable[..., None] = pytest.mark.slow(installed(test))
    return marked


MODES = ["zero_grad", "no_zero_grad", "halve_grad", "accumulate:4"]
LR = 0.05


def task(dtype: torch.dtype = torch.float64) -> Task:
    """Return a small network on 45 points, in batches of 8 of which the last has 5."""
    generator = torch.Generator().manual_seed(5)
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)
    x = torch.randn(45, 6, generator=generator, dtype=dtype)
    y = torch.rand(45, 3, generator=generator, dtype=dtype)
    return Task.supervised(model, Minibatches(x, y, 8, generator), nn.MSELoss())


def every_layer(criterion: nn.Module) -> Task:
    """Return a network of every layer that can be converted, one inside another, on two batches."""
    torch.manual_seed(6)
    inner = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh()))
    model = nn.Sequential(nn.Flatten(), inner, nn.Linear(4, 3), nn.Sigmoid()).double()
    classes = isinstance(criterion, nn.CrossEntropyLoss)
    batches = [
        (torch.randn(7, 2, 3).double(), torch.randint(0, 3, (7,)) if classes else torch.rand(7, 3).double())
        for _ in range(2)
    ]
    return Task.supervised(model, batches, criterion)


def by_torch(task: Task, word: str, lr: float = LR, **end: Any) -> list[Row]:
    return list(train(task, modes.parse(word), optimizers.build("SGD", task.model.parameters(), {"lr": lr}), **end))


def by_tensorflow(task: Task, word: str, lr: float = LR, **end: Any) -> list[Row]:
    return list(tensorflow.train(task, modes.parse(word), lr, **end))


def farthest(one: Iterable[Row], other: Iterable[Row]) -> float:
    """Return the largest difference of two losses, relative where they are above 1."""
    pairs = zip(one, other, strict=True)
    return max(abs(a.loss - b.loss) / max(1.0, abs(a.loss)) for a, b in pairs)


def supervised(model: nn.Module, criterion: Any = None, targets: Tensor | None = None) -> Task:
    batch = (torch.ones(2, 3), torch.zeros(2, 3) if targets is None else targets)
    return Task.supervised(model, [batch], criterion or nn.MSELoss())


# Agreement


@needs_tensorflow
@pytest.mark.parametrize("word", MODES)
def test_over_200_steps_in_float64_the_losses_are_those_of_torch(word: str) -> None:
    torchs, ours = by_torch(task(), word, steps=200), by_tensorflow(task(), word, steps=200)
    assert [row[:3] for row in ours] == [row[:3] for row in torchs]
    assert torchs[-1].loss != torchs[0].loss
    # Rounding is 1e-16; with nothing cleared, mini-batches amplify it, here by less than 1e4.
    assert farthest(torchs, ours) < 1e-12


@needs_tensorflow
@pytest.mark.parametrize("word", ["zero_grad", "no_zero_grad"])
def test_200_losses_in_float32_are_those_of_torch(word: str) -> None:
    torchs = by_torch(task(torch.float32), word, steps=200)
    ours = by_tensorflow(task(torch.float32), word, steps=200)
    assert farthest(torchs, ours) < 1e-4  # rounding is 6e-8, amplified as above


@needs_tensorflow
@pytest.mark.parametrize("criterion", [nn.MSELoss(), nn.L1Loss(), nn.CrossEntropyLoss()], ids=["mse", "l1", "cross"])
def test_every_converted_layer_and_loss_is_that_of_torch(criterion: nn.Module) -> None:
    torchs = by_torch(every_layer(criterion), "halve_grad", lr=0.5, epochs=5)
    assert farthest(torchs, by_tensorflow(every_layer(criterion), "halve_grad", lr=0.5, epochs=5)) < 1e-14
    assert torchs[-2].loss < torchs[0].loss  # both of the first batch


@needs_tensorflow
@pytest.mark.parametrize("word", ["accumulate:4:sum", "keep=0.5,every=4", "keep=-0.25,every=3:sum"])
def test_windows_are_summed_kept_and_cut_short_as_by_torch(word: str) -> None:
    torchs, ours = by_torch(task(), word, steps=15), by_tensorflow(task(), word, steps=15)
    assert [row[:3] for row in ours] == [row[:3] for row in torchs]
    assert farthest(torchs, ours) < 1e-14


@needs_tensorflow
def test_the_trained_weights_reach_the_model_at_the_end() -> None:
    one, other = task(), task()
    start = copy.deepcopy(other.model.state_dict())
    by_torch(one, "no_zero_grad", epochs=2)
    rows = tensorflow.train(other, modes.parse("no_zero_grad"), LR, epochs=2)
    assert [next(rows).step, next(rows).step] == [0, 1]
    assert all(torch.equal(value, start[key]) for key, value in other.model.state_dict().items())
    list(rows)
    for key, value in one.model.state_dict().items():
        torch.testing.assert_close(other.model.state_dict()[key], value, rtol=0, atol=1e-12)
        assert not torch.equal(value, start[key])


@needs_tensorflow
def test_weights_that_are_shared_or_frozen_stay_so() -> None:
    def made() -> Task:
        torch.manual_seed(1)
        twice, last = nn.Linear(3, 3), nn.Linear(3, 3)
        last.weight = twice.weight
        last.bias.requires_grad_(False)
        return supervised(nn.Sequential(twice, nn.Tanh(), twice, last), nn.L1Loss())

    other = made()
    assert farthest(by_torch(made(), "no_zero_grad", epochs=5), by_tensorflow(other, "no_zero_grad", epochs=5)) < 1e-5
    assert torch.equal(made().model.state_dict()["3.bias"], other.model.state_dict()["3.bias"])


@needs_tensorflow
def test_samples_may_come_one_by_one_without_a_batch_dimension() -> None:
    def made() -> Task:
        torch.manual_seed(1)
        samples = [(torch.randn(4), torch.randn(3)) for _ in range(6)]
        return Task.supervised(nn.Linear(4, 3), samples, nn.MSELoss())

    assert farthest(by_torch(made(), "zero_grad", epochs=3), by_tensorflow(made(), "zero_grad", epochs=3)) < 1e-6


@needs_tensorflow
def test_infinite_gradients_are_gone_once_they_are_cleared() -> None:
    def made() -> Task:
        model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(model.weight)
        batches = [(torch.tensor([[x]]), torch.zeros(1, 1)) for x in (3e38, 3e38, 1.0, 1.0, 1.0, 1.0)]
        return Task.supervised(model, batches, nn.L1Loss())

    losses = [row.loss for row in by_tensorflow(made(), "accumulate:2:sum", epochs=1)]
    assert losses == [row.loss for row in by_torch(made(), "accumulate:2:sum", epochs=1)]  # no nan, which equals none
    assert losses[-1] == math.inf


@needs_tensorflow
def test_an_epoch_without_a_batch_is_refused_as_by_the_loop() -> None:
    with pytest.raises(TaskError, match="epoch 0 has no batch"):
        by_tensorflow(replace(supervised(nn.Linear(3, 3)), batches=[]), "zero_grad", epochs=1)


# What cannot be converted


class Own(nn.Linear):
    """A layer that may do anything."""


def hooked(register: str, place: int = 0) -> nn.Module:
    """Return a model with a hook on one of its layers, registered as the method of that name does it."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    getattr(model[place], register)(lambda *_: None)
    return model


def own_forward() -> nn.Module:
    model = nn.Linear(3, 3)
    vars(model)["forward"] = lambda x: 2 * x  # as some who trace or quantise do
    return model


def parameter_hooked() -> nn.Module:
    model = nn.Linear(3, 3)
    model.weight.register_hook(lambda gradient: 2 * gradient)  # type: ignore[no-untyped-call]  # torch has no types here
    return model


def with_a_free_parameter() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3))
    model.register_parameter("free", nn.Parameter(torch.ones(3)))
    return model


def labels(*classes: int) -> Task:
    return supervised(nn.Linear(3, 3), nn.CrossEntropyLoss(), torch.tensor(classes))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3)))


@needs_tensorflow
@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: supervised(normed()), r"layer 1\.1 of the model, a BatchNorm1d; it supports Linear, ReLU"),
        (lambda: supervised(Own(3, 3)), "the model, a Own; it supports Linear"),
        (lambda: supervised(nn.Linear(3, 3), nn.HuberLoss()), "criterion HuberLoss; it supports MSELoss, L1Loss"),
        (lambda: supervised(nn.Linear(3, 3), nn.functional.mse_loss), "criterion mse_loss; it supports"),
        (lambda: supervised(nn.Linear(3, 3), nn.MSELoss(reduction="sum")), "MSELoss with reduction=sum"),
        (lambda: supervised(nn.Linear(3, 3), nn.CrossEntropyLoss(label_smoothing=0.1)), "with label_smoothing=0.1"),
        (
            lambda: supervised(nn.Linear(3, 3), nn.CrossEntropyLoss()),
            r"class numbers \(n,\) for CrossEntropyLoss, got \(2, 3\) and float32",
        ),
        (lambda: supervised(hooked("register_forward_hook")), r"layer 0 of the model: it has a hook"),
        (lambda: supervised(hooked("register_forward_pre_hook", 1)), r"layer 1 of the model: it has a hook"),
        (lambda: supervised(hooked("register_full_backward_hook")), r"layer 0 of the model: it has a hook"),
        (lambda: supervised(own_forward()), "the model: it has a hook"),
        (lambda: supervised(parameter_hooked()), "the model: it has a hook"),
        (lambda: supervised(with_a_free_parameter()), "the model's parameter 'free': it is no weight or bias"),
        (
            lambda: supervised(nn.Linear(3, 3), targets=torch.zeros(2, 3, dtype=torch.int64)),
            "outputs and targets of one type for .*, got float32 and int64",
        ),
        (lambda: labels(1, -100), "class numbers from 0 to 2 for CrossEntropyLoss, got -100 to 1; remove rows"),
        (
            lambda: replace(supervised(nn.Linear(3, 3)), criterion=None),
            "cannot convert your own loss; make the task with Task.supervised",
        ),
    ],
    ids=[
        "layer",
        "subclass",
        "criterion",
        "function",
        "reduction",
        "smoothing",
        "soft",
        "hook",
        "pre-hook",
        "backward hook",
        "forward",
        "hook of a parameter",
        "parameter",
        "integers",
        "ignored",
        "own loss",
    ],
)
def test_what_cannot_be_converted_is_refused_by_name(made: Callable[[], Task], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        by_tensorflow(made(), "zero_grad", epochs=1)


@needs_tensorflow
@pytest.mark.parametrize("factor", [100, 1.01, -1])
def test_a_loss_not_made_of_the_criterion_is_refused(factor: float) -> None:
    made = task()
    other = replace(made, loss=lambda model, batch: factor * made.loss(model, batch))
    with pytest.raises(TaskError, match=r"cannot convert the loss: .* it is 0\.\d+, but "):
        by_tensorflow(other, "zero_grad", steps=1)


@needs_tensorflow
def test_a_loss_that_is_a_pair_is_refused() -> None:
    made = task()
    with pytest.raises(TaskError, match=r"needs a scalar loss, as Task\.supervised makes it, got a tuple"):
        by_tensorflow(replace(made, loss=lambda model, batch: (made.loss(model, batch), 1)), "zero_grad", steps=1)


@needs_tensorflow
@pytest.mark.parametrize("start", [0.0, math.inf, math.nan])
def test_losses_of_zero_and_nan_are_those_of_torch(start: float) -> None:
    model = nn.Linear(3, 3)
    nn.init.zeros_(model.weight)
    nn.init.constant_(model.bias, start)
    (row,) = by_tensorflow(supervised(model), "zero_grad", steps=1)
    assert row.loss == start**2 or math.isnan(start)


@needs_tensorflow
def test_comparing_with_torch_leaves_nothing_in_grad() -> None:
    made = task()
    by_tensorflow(made, "no_zero_grad", steps=2)
    assert {parameter.grad for parameter in made.model.parameters()} == {None}


# The engine of an experiment


def line(**more: Any) -> Experiment:
    values: dict[str, Any] = {"modes": ["no_zero_grad"], "steps": 20, "engine": "tensorflow", **more}
    return experiments.from_task("noisy_line", [Override((key,), value, f"--{key}") for key, value in values.items()])


def test_the_engine_is_a_setting_of_a_run_unless_it_is_the_loop() -> None:
    mode = modes.parse("zero_grad")
    plain, loop, tensor = (each.settings(mode, 1) for each in (line(engine="loop"), line(engine="loop"), line()))
    assert "engine" not in plain
    assert tensor == {**loop, "engine": "tensorflow"}
    assert identity(tensor) != identity(loop)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"optimizer": {"name": "adam", "lr": 0.1}},
            "only SGD and vanilla with lr, on the CPU; it does not support Adam",
        ),
        ({"optimizer": {"momentum": 0.9}}, "only SGD and vanilla with lr, on the CPU; remove momentum"),
        ({"clip_norm": 1.0}, "remove clip_norm = 1.0"),
        ({"modes": ["json.tool:main"]}, "not your own mode 'json.tool:main'"),
        ({"schedule": "linear"}, "remove schedule = linear"),
        ({"log": ["geometry"]}, r"remove log = \['geometry'\]"),
        ({"device": "cuda"}, "remove device = cuda"),
        ({"engine": "jax"}, "must be 'loop', 'ensemble' or 'tensorflow', got 'jax'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_the_engine_does_not_do_is_refused_at_once(more: dict[str, Any], message: str) -> None:
    with pytest.raises(GradlabError, match=message):
        line(**more)


def test_a_refusal_names_the_line_of_the_file(folder: Path) -> None:
    (folder / "mine.toml").write_text('task = "noisy_line"\nengine = "tensorflow"\nschedule = "linear"\n')
    with pytest.raises(ExperimentError, match=r"^mine.toml:3: engine 'tensorflow' supports"):
        experiments.load("mine.toml")


def test_without_tensorflow_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "tensorflow" else found(name, *a)
    )
    done = CliRunner().invoke(app, ["run", "--task", "noisy_line", "--engine", "tensorflow"])
    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        "engine 'tensorflow' needs TensorFlow, which is not installed",
        "pip install 'gradlab[tensorflow]'",
    ]
    assert not list(Path.cwd().rglob("*noisy_line*"))


@needs_tensorflow
def test_a_run_has_the_loops_losses_and_tensorflows_version() -> None:
    import tensorflow as tf

    looped = runs.run(line(engine="loop")).runs[0]
    found = runs.run(line()).runs[0]
    assert (looped.cached, found.cached, found.updates) == (False, False, 20)
    assert 0 < farthest(looped.rows, found.rows) < 1e-4  # not the loop's own rows, but theirs within rounding
    record = json.loads((found.folder / "run.json").read_text())
    assert record["versions"]["tensorflow"] == tf.__version__
    assert "tensorflow" not in json.loads((looped.folder / "run.json").read_text())["versions"]


@needs_tensorflow
def test_two_runs_of_the_engine_are_equal_bit_for_bit() -> None:
    first = runs.run(line()).runs[0]
    assert runs.run(line(), fresh=True).runs[0].rows == first.rows


@needs_tensorflow
def test_threads_that_tensorflow_did_not_start_with_are_refused() -> None:
    runs.run(line())  # it has started now, with one
    with pytest.raises(ExperimentError, match="other settings than CPU and 2 threads"):
        runs.run(line(threads=2))
