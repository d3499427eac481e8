"""Quadratics: a task is one if its loss is, in full batches; its numbers are those of linear algebra, and recorded."""

from __future__ import annotations

import json
import sys
from collections import namedtuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from gradlab import experiment as experiments
from gradlab import runs, tasks
from gradlab.analysis import quadratic
from gradlab.analysis.quadratic import MAX_PARAMETERS, measure, why_no_theory
from gradlab.experiment import Override
from gradlab.tasks import Minibatches, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradlab.analysis.results import ExperimentResult

X = torch.linspace(0, 2, 12).unsqueeze(1)
Y = X.sin()
Pair = namedtuple("Pair", ["inputs", "targets"])  # noqa: PYI024 - a batch of the kind that users' code has


class Weights(nn.Module):
    def __init__(self, *start: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start))


def of_weights(loss: Callable[[Tensor], Any], *start: float) -> Task:
    """Return the task of that loss of the weights, which has no data."""
    return Task(Weights(*start), [None], lambda model, _: loss(model.w))


def fitted(model: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor] | None = None, batches: Any = None) -> Task:
    return Task.supervised(model, batches or [(X, Y)], criterion or nn.MSELoss())


def bends(task: Task) -> int:
    """Return how many directions of the task's loss are bent; the task must be a quadratic."""
    found = measure(task)
    assert found
    return len(found.curvatures)


class New:
    """One batch, another at each pass."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield torch.randn(12, 1), torch.randn(12, 1)


class Liar(New):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield X, Y
        yield X, Y


# The numbers


def test_least_squares_has_the_numbers_of_linear_algebra() -> None:
    torch.manual_seed(3)
    inputs, targets, model = torch.randn(20, 3), torch.randn(20, 1), nn.Linear(3, 1)
    found = measure(fitted(model, batches=[(inputs, targets)]))
    assert found
    design = np.hstack([inputs.numpy().astype(float), np.ones((20, 1))])
    start = np.append(model.weight.detach().numpy().astype(float), model.bias.item())
    best, residuals, *_ = np.linalg.lstsq(design, targets.numpy().astype(float), rcond=None)
    curvatures, axes = np.linalg.eigh(2 / 20 * design.T @ design)
    # float64 rounds at 1e-16, and both sides sum 20 samples and solve a system of condition below 10
    assert found.curvatures == pytest.approx(curvatures, rel=1e-12)
    assert np.abs(found.amplitudes) == pytest.approx(np.abs(axes.T @ (start - best[:, 0])), rel=1e-12)
    assert found.floor == pytest.approx(residuals[0] / 20, rel=1e-12)


def test_a_sum_of_squares_has_known_curvatures_and_floor() -> None:
    scale = torch.tensor([0.5, 2.0, 8.0], dtype=torch.float64)
    found = measure(of_weights(lambda w: 0.25 + (0.5 * scale * (w - 1) ** 2).sum(), 2.0, 0.0, 4.0))
    assert found
    assert found.curvatures == [0.5, 2.0, 8.0]
    assert [abs(each) for each in found.amplitudes] == [1.0, 1.0, 3.0]
    assert found.floor == 0.25


def test_a_direction_in_which_nothing_changes_is_left_out() -> None:
    assert bends(of_weights(lambda w: (w[0] + w[1]) ** 2, 1.0, 2.0)) == 1
    assert bends(of_weights(lambda w: w[0] ** 2, 1.0, 2.0)) == 1
    assert bends(fitted(nn.Linear(30, 1), batches=[(torch.randn(5, 30), torch.randn(5, 1))])) == 5


def test_weights_that_are_not_trained_are_no_directions() -> None:
    model = nn.Linear(1, 1)
    model.bias.requires_grad_(False)
    assert bends(fitted(model)) == 1


def test_a_batch_in_a_new_order_at_each_pass_is_a_full_batch() -> None:
    assert bends(fitted(nn.Linear(1, 1), batches=Minibatches(X, Y, 12, torch.Generator()))) == 2
    loader = DataLoader(TensorDataset(X, Y), batch_size=12, shuffle=True)
    assert bends(fitted(nn.Linear(1, 1), batches=loader)) == 2


@pytest.mark.parametrize(
    "batch", [(X, Y), [X, Y], Pair(X, Y), {"inputs": X, "targets": Y}], ids=lambda b: type(b).__name__
)
def test_tensors_in_a_batch_of_any_shape_are_seen_in_float64(batch: Any) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        inputs, targets = batch.values() if isinstance(batch, dict) else batch
        return nn.functional.mse_loss(model(inputs), targets)

    assert bends(Task(nn.Linear(1, 1), [batch], loss)) == 2


def test_a_loss_that_is_a_pair_of_sum_and_count_is_its_mean() -> None:
    def sum_and_count(w: Tensor) -> tuple[Tensor, int]:
        return (w**2).sum() * 4, 8

    found = measure(of_weights(sum_and_count, 3.0))
    assert found
    assert (found.curvatures, found.floor) == ([1.0], 0.0)


def test_a_far_minimum_and_a_large_floor_do_not_hide_a_quadratic() -> None:
    assert bends(of_weights(lambda w: 1e4 + ((w - 1e5) ** 2).sum(), 1.0, 0.0)) == 2


# What is none


def in_float32(w: Tensor) -> Tensor:
    return (w.float() ** 2).sum()


def printing(_: Tensor) -> Tensor:
    sys.stdout.write("heard")
    raise SystemExit(3)


NONE: dict[str, Task] = {
    "L1": fitted(nn.Linear(1, 1), nn.L1Loss()),
    "Huber, far from where it is a quadratic": fitted(nn.Linear(1, 1), nn.HuberLoss(delta=5.0)),
    "tanh": fitted(nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1))),
    "ReLU": fitted(nn.Sequential(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))),
    "dropout": fitted(nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5))),
    "two layers": fitted(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))),
    "a cube": of_weights(lambda w: (w**2 + 1e-6 * w**3).sum(), 1.0),
    "a fourth power": of_weights(lambda w: (w**2 + 1e-6 * w**4).sum(), 1.0),
    "a saddle": of_weights(lambda w: w[0] ** 2 - 1e-3 * w[1] ** 2, 1.0, 1.0),
    "a saddle, from its ridge": of_weights(lambda w: w[0] ** 2 - 1e-3 * w[1] ** 2, 1.0, 0.0),
    "a slope without a bend": of_weights(lambda w: w[0] ** 2 + 1e-3 * w[1], 1.0, 1.0),
    "a slope alone": of_weights(lambda w: w.sum(), 1.0, 1.0),
    "a constant": of_weights(lambda w: 0 * w.sum(), 1.0),
    "nan": of_weights(lambda w: (w**2).sum() * float("nan"), 1.0),
    "beyond any closed form": of_weights(lambda w: 1e200 * (w**2).sum(), 1.0),
    "two batches": fitted(nn.Linear(1, 1), batches=[(X, Y), (X, Y)]),
    "two batches that say they are one": fitted(nn.Linear(1, 1), batches=Liar()),
    "another batch at each pass": fitted(nn.Linear(1, 1), batches=New()),
    "batches that can be drawn but once": Task(Weights(1.0), map(str, [1]), lambda model, _: (model.w**2).sum()),
    "not in float64": of_weights(in_float32, 1.0),
    "not a scalar": of_weights(lambda w: w**2, 1.0, 1.0),
    "not a tensor": of_weights(lambda _: 1.0, 1.0),
    "data that stays in float32": Task(nn.Linear(1, 1), [None], lambda model, _: model(X).square().mean()),
    "a loss that raises": of_weights(lambda _: 1 / 0, 1.0),
    "a loss that exits": of_weights(printing, 1.0),
    "a batch of no tensors": Task(nn.Linear(1, 1), ["text"], lambda model, batch: model(batch).mean()),
}


@pytest.mark.parametrize("what", NONE)
def test_this_is_no_quadratic_in_full_batches(what: str) -> None:
    torch.manual_seed(0)
    assert measure(NONE[what]) is None


def test_more_parameters_than_a_moment_s_work_are_not_looked_at() -> None:
    def task(size: int) -> Task:
        return of_weights(lambda w: (w**2).sum(), *[1.0] * size)

    assert bends(task(MAX_PARAMETERS)) == MAX_PARAMETERS
    assert measure(task(MAX_PARAMETERS + 1)) is None


def test_with_several_batches_an_epoch_nothing_is_computed() -> None:
    class Batches:
        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Iterator[Any]:
            pytest.fail("a batch is drawn")  # no Exception, so `measure` lets it through

    assert measure(fitted(nn.Linear(1, 1), batches=Batches())) is None


def test_batches_without_a_length_are_counted_by_drawing_two() -> None:
    class Batches:
        def __init__(self, number: int) -> None:
            self.number, self.drawn = number, 0

        def __iter__(self) -> Iterator[Any]:
            for _ in range(self.number):
                self.drawn += 1
                yield X, Y

    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    assert measure(fitted(model, batches=Batches(1))) == measure(fitted(model)) is not None
    many = Batches(100)
    assert measure(fitted(model, batches=many)) is None
    assert many.drawn == 4


def test_looking_leaves_the_model_as_it_was_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2))
    before = {name: each.clone() for name, each in model.state_dict().items()}
    measure(fitted(model, nn.MSELoss()))  # of shapes that torch warns of, and warnings are errors here
    measure(of_weights(printing, 1.0))
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(each.dtype == torch.float32 and each.grad is None for each in model.parameters())
    assert capsys.readouterr() == ("", "")


# Settings


@pytest.mark.parametrize("name", ["SGD", "vanilla"])
@pytest.mark.parametrize("more", [{}, {"momentum": 0.0, "weight_decay": 0.0, "nesterov": False, "foreach": True}])
def test_plain_sgd_is_no_obstacle(name: str, more: dict[str, Any]) -> None:
    assert why_no_theory({"optimizer": {"name": name, "lr": 0.1} | more}) == ""


SGD = {"name": "SGD", "lr": 0.1}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"optimizer": {"name": "Adam", "lr": 0.1}}, "the optimizer is Adam"),
        ({"optimizer": SGD | {"momentum": 0.9}}, "momentum 0.9"),
        ({"optimizer": SGD | {"weight_decay": 0.01}}, "weight_decay 0.01"),
        ({"optimizer": SGD | {"dampening": 0.5}}, "dampening 0.5"),
        ({"optimizer": SGD | {"nesterov": True}}, "nesterov"),
        ({"optimizer": SGD | {"maximize": True}}, "maximize"),
        ({"optimizer": SGD, "clip_norm": 1.0}, "clipped to norm 1.0"),
        ({"optimizer": SGD, "schedule": "linear"}, "schedule linear"),
        ({"optimizer": SGD | {"lr": "fast"}}, "lr is fast"),
        ({"optimizer": SGD | {"lr": 1e101}}, "lr is 1e"),
        ({"optimizer": "SGD"}, "not plain SGD"),
        ({}, "not plain SGD"),
    ],
)  # fmt: skip
def test_what_is_not_plain_sgd_is_an_obstacle_that_is_named(settings: dict[str, Any], reason: str) -> None:
    assert reason in why_no_theory(settings)


# What a run records

OWN = """
import torch
from gradlab import Task

calls = 0

def own(seed: int, batch_size: int = 6) -> Task:
    global calls
    calls += 1
    x = torch.randn(6, 1)
    loader = torch.utils.data.DataLoader(list(zip(x, x.cos())), batch_size=batch_size, shuffle=True)
    model = torch.nn.Sequential(torch.nn.Linear(1, 1){dropout})
    return Task.supervised(model, loader, torch.nn.MSELoss())
"""


def own(source: str = OWN, *, dropout: str = "", **values: Any) -> experiments.Experiment:
    """Return an experiment on a task of a user's own that draws from the global generators."""
    Path("mine.py").write_text(source.replace("{dropout}", dropout))
    given = {"modes": ["zero_grad", "no_zero_grad"], "epochs": 3} | values
    return experiments.from_task("mine.py:own", [Override((key,), value, key) for key, value in given.items()])


def recorded(outcome: ExperimentResult) -> list[Any]:
    return [json.loads((run.folder / "run.json").read_text())["quadratic"] for run in outcome.runs]


def test_runs_of_a_seed_record_one_quadratic() -> None:
    one, two, other, another = recorded(runs.run(own(seeds=[1, 2])))
    assert set(one) == {"curvatures", "amplitudes", "floor"}
    assert (one, two) == (other, another)
    assert one != two


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"task_options": {"batch_size": 3}}, {}),
        ({"dropout": ", torch.nn.Dropout(0.5)"}, {}),
        ({"optimizer": {"name": "Adam"}}, None),
        ({"clip_norm": 1.0}, None),
    ],
)  # fmt: skip
def test_runs_without_theory_record_none(values: dict[str, Any], expected: object) -> None:
    assert recorded(runs.run(own(**values))) == [expected] * 2


@pytest.mark.parametrize(
    ("values", "calls"), [({}, 5), ({"task_options": {"batch_size": 3}}, 4), ({"clip_norm": 1.0}, 4)]
)
def test_a_task_is_built_again_only_where_theory_may_hold(values: dict[str, Any], calls: int) -> None:
    chosen = own(**values)
    runs.run(chosen)
    assert tasks.load(chosen.task_name).__globals__["calls"] == calls


@pytest.mark.parametrize("dropout", ["", ", torch.nn.Dropout(0.5)"])
def test_looking_does_not_change_a_row(dropout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = runs.run(own(dropout=dropout), Path("looked"))
    monkeypatch.setattr(quadratic, "measure", lambda _: None)
    left = runs.run(own(dropout=dropout), Path("left"))
    assert [run.rows for run in looked.runs] == [run.rows for run in left.runs]


def test_a_task_that_fails_only_when_measured_is_trained() -> None:
    source = OWN.replace("    x =", "    if calls == 3:\n        raise ValueError(calls)\n    x =")
    outcome = runs.run(own(source))
    assert [run.status for run in outcome.runs] == ["done", "done"]
    assert recorded(outcome) == [{}, {}]
