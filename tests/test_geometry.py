"""Gradient geometry: the numbers of each update are those of a loop by hand, and measuring them changes nothing."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from gradlab import modes, optimizers, tasks
from gradlab.engines.cursor import Cursor
from gradlab.engines.loop import train
from gradlab.tasks import Task
from tests.table import MODES, OPTIMIZERS, each_with_each
from tests.table import TASKS as TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradlab.modes import Mode
    from gradlab.rows import Geometry, Row

LR = 0.1
SIZES = [3, 5, 2, 4, 6]  # of the batches of an epoch; the last window of several is shorter


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    shapes = [(size, 2) for size in SIZES]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [(x, x.sum(1, keepdim=True).sin()) for x in inputs]


def net() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()


def squares(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the squared error of each item, shape (items, 1)."""
    differences: Tensor = model(batch[0]) - batch[1]
    return differences.square()


def mean_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return squares(model, batch).mean()


def sum_and_count(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
    return squares(model, batch).sum(), len(batch[0])


LOSSES: dict[str, Callable[..., Any]] = {"mean": mean_loss, "sum and count": sum_and_count}


def window_loss(model: nn.Module, window: list[Any], mode: Mode, *, counts: bool) -> Tensor:
    """Return what a window descends: its mean over items if the loss counts them, else over batches, or the sum."""
    means = [mean_loss(model, batch) for batch in window]
    if not mode.mean or mode.every == 1:
        return torch.stack(means).sum()
    if mode.by_batch or not counts:
        return torch.stack(means).mean()
    items = [len(batch[0]) for batch in window]
    return torch.stack([mean * n for mean, n in zip(means, items, strict=True)]).sum() / sum(items)


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([each.detach().flatten() for each in tensors])


def length(vector: Tensor) -> float:
    return math.sqrt(math.fsum(x * x for x in vector.tolist()))


def by_hand(word: str, epochs: int, clip: float, *, counts: bool) -> list[tuple[float, ...]]:
    """Train by vectors, without `.grad`: the gradient of each window at the weights, added to what is kept."""
    mode, model, kept = modes.parse(word), net(), None
    found: list[tuple[float, ...]] = []
    weights = list(model.parameters())
    for _ in range(epochs):
        for begin in range(0, len(SIZES), mode.every):
            window = batches()[begin : begin + mode.every]
            fresh = flat(torch.autograd.grad(window_loss(model, window, mode, counts=counts), weights))
            used = fresh if kept is None else mode.keep * kept + fresh
            cosine = (fresh @ used).item() / length(fresh) / length(used)
            used = used * min(1.0, clip / length(used))
            found.append((length(fresh), length(used), cosine, LR * length(used)))
            with torch.no_grad():
                for weight, part in zip(weights, torch.split(used, [w.numel() for w in weights]), strict=True):
                    weight.sub_(LR * part.view(weight.shape))
            kept = used
    return found


def rows_of(mode: Mode | str, task: Task, optimizer: str = "SGD", **options: Any) -> list[Row]:
    """Train the task and return its rows; by default for three epochs, with geometry."""
    made = optimizers.build(optimizer, task.model.parameters(), options.pop("settings", {"lr": LR}))
    return list(train(task, mode, made, **{"epochs": 3, "geometry": True} | options))


def geometry_of(rows: list[Row]) -> list[Geometry]:
    return [row.geometry for row in rows if row.geometry]


# The numbers


@pytest.mark.parametrize("clip", [1e9, 0.3], ids=["not clipped", "clipped"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("word", MODES)
def test_the_geometry_is_that_of_a_loop_by_hand(word: str, loss: str, clip: float) -> None:
    found = geometry_of(rows_of(word, Task(net(), batches(), LOSSES[loss]), clip_norm=clip))
    expected = by_hand(word, 3, clip, counts=loss == "sum and count")
    assert len(found) == len(expected) > 5
    assert any(used == pytest.approx(clip) for _, used, *_ in expected) == (clip == 0.3)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)  # clip_grad_norm_ adds 1e-6 to the norm


class Tied(nn.Module):
    """A shared weight: tanh(w·tanh(w·x))."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(2, 2, bias=False, dtype=torch.float64)
        self.other = nn.Linear(2, 2, bias=False, dtype=torch.float64)
        self.other.weight = self.one.weight
        with torch.no_grad():
            self.one.weight.copy_(torch.tensor([[0.5, -0.2], [0.3, 0.8]]))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.other(self.one(inputs).tanh()).tanh()
        return outputs


@pytest.mark.parametrize(("word", "keep"), [("zero_grad", 0.0), ("halve_grad", 0.5), ("no_zero_grad", 1.0)])
def test_tied_weights_count_once(word: str, keep: float) -> None:
    w, kept = torch.tensor([[0.5, -0.2], [0.3, 0.8]]).double().requires_grad_(), torch.zeros(2, 2).double()
    expected = []
    for x, y in batches():
        loss = ((x @ w.T).tanh() @ w.T).tanh().sub(y).square().mean()
        (fresh,) = torch.autograd.grad(loss, w)
        kept = keep * kept + fresh
        one, both = fresh.flatten(), kept.flatten()
        cosine = (one @ both).item() / length(one) / length(both)
        expected.append((length(one), length(both), cosine, LR * length(both)))
        w = (w - LR * kept).detach().requires_grad_()
    task = Task(Tied(), batches(), mean_loss)
    found = geometry_of(rows_of(word, task, epochs=1))
    assert len(found) == len(expected) == 5
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("word", MODES)
def test_only_rows_before_an_update_have_geometry(word: str) -> None:
    rows = rows_of(word, Task(net(), batches(), mean_loss))
    ends = [row.update != after.update for row, after in pairwise(rows)] + [True]
    assert [row.geometry is not None for row in rows] == ends


def test_the_gradient_norm_is_that_after_clipping() -> None:
    (first, *_) = geometry_of(rows_of("zero_grad", Task(net(), batches(), mean_loss), clip_norm=0.01))
    assert first.gradient_norm == pytest.approx(0.01, rel=1e-3)
    assert first.fresh_norm > 0.1
    assert first.cosine == 1.0


def test_the_update_norm_is_that_of_the_weights() -> None:
    task = Task(net(), batches(), mean_loss)
    count = sum(weight.numel() for weight in task.model.parameters())
    first, *_ = geometry_of(rows_of("zero_grad", task, "Adam", settings={"lr": 0.01}))
    assert first.update_norm == pytest.approx(0.01 * math.sqrt(count), rel=1e-4)  # the first step of Adam is ±lr


def test_norms_of_float32_neither_overflow_nor_vanish() -> None:
    for scale in (1e30, 1e-30):
        model = nn.Linear(3, 1, bias=False)
        task = Task(model, [scale], lambda model, scale: (model.weight * scale).sum())
        first, second, *_ = geometry_of(rows_of("no_zero_grad", task, settings={"lr": 1e-30}))
        assert first.fresh_norm == pytest.approx(math.sqrt(3) * scale, rel=1e-6)
        assert second == pytest.approx((first.fresh_norm, 2 * first.fresh_norm, 1.0, second.update_norm), rel=1e-6)


@pytest.mark.parametrize("word", ["zero_grad", "no_zero_grad"])
def test_a_gradient_of_zero_has_no_cosine(word: str) -> None:
    task = Task(net(), batches(), lambda model, batch: 0.0 * mean_loss(model, batch))
    measured = geometry_of(rows_of(word, task))
    assert len(measured) == 15
    for found in measured:
        assert (found.fresh_norm, found.gradient_norm, found.update_norm) == (0.0, 0.0, 0.0)
        assert math.isnan(found.cosine)


@pytest.mark.parametrize("word", ["zero_grad", "no_zero_grad", "accumulate:4"])
def test_a_gradient_that_is_not_finite_is_logged_as_such(word: str) -> None:
    task = Task(net(), batches(), lambda model, batch: math.inf * mean_loss(model, batch))
    first, *_ = geometry_of(rows_of(word, task))
    assert not math.isfinite(first.fresh_norm)
    assert not math.isfinite(first.gradient_norm)
    assert math.isnan(first.cosine)


def test_a_finite_gradient_and_an_infinite_one_have_no_cosine() -> None:
    def leave(parameters: list[nn.Parameter], update: int) -> None:  # noqa: ARG001 - of every mode
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, math.inf)

    own = modes.parse("no_zero_grad")._replace(rewrite_grad=leave, name="own")
    _, second, *_ = geometry_of(rows_of(own, Task(net(), batches(), mean_loss), steps=2, epochs=None))
    assert 0 < second.fresh_norm < math.inf == second.gradient_norm
    assert math.isnan(second.cosine)


def test_an_own_mode_has_the_fresh_gradient_of_its_window() -> None:
    def leave(parameters: list[nn.Parameter], update: int) -> None:  # noqa: ARG001 - of every mode
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad = 0.5 * parameter.grad

    own = modes.parse("zero_grad")._replace(rewrite_grad=leave, name="own")
    halved, ours = (geometry_of(rows_of(mode, Task(net(), batches(), mean_loss))) for mode in ("halve_grad", own))
    assert ours == halved


# Odd parameters and losses


@pytest.mark.parametrize("word", ["zero_grad", "no_zero_grad"])
def test_a_parameter_without_gradient_counts_as_zeros(word: str) -> None:
    class Partly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = net(), nn.Linear(9, 9)

        def forward(self, x: Tensor) -> Any:
            return self.used(x)

    partly, whole = (geometry_of(rows_of(word, Task(model, batches(), mean_loss))) for model in (Partly(), net()))
    assert partly == whole


@pytest.mark.parametrize("word", ["zero_grad", "no_zero_grad", "keep=0.5,every=2"])
def test_a_sparse_gradient_is_measured_as_a_dense_one(word: str) -> None:
    def made(*, sparse: bool) -> Task:
        torch.manual_seed(1)
        model = nn.Embedding(7, 2, sparse=sparse)
        words = [torch.tensor([1, 1, 4]), torch.tensor([0, 6]), torch.tensor([4])]
        return Task(model, words, lambda model, batch: model(batch).square().sum())

    sparse, dense = (geometry_of(rows_of(word, made(sparse=each))) for each in (True, False))
    assert len(sparse) == len(dense) > 3
    for one, other in zip(sparse, dense, strict=True):
        assert one == pytest.approx(other, rel=1e-6)


def test_a_shared_weight_counts_once() -> None:
    model = nn.ModuleDict({"one": nn.Linear(1, 2, bias=False), "other": nn.Linear(1, 2, bias=False)}).double()
    model["other"].weight = model["one"].weight = nn.Parameter(torch.ones(2, 1, dtype=torch.float64))
    rows = [torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [1.0]])]
    task = Task(model, rows, lambda model, x: (model["one"].weight * model["other"].weight * x).sum())
    root = math.sqrt(2)  # the gradients are 2wx: (2, 0), then (0, 2), and their sum is (2, 2)
    one, other = geometry_of(rows_of("no_zero_grad", task, epochs=1))
    assert (*one, *other) == pytest.approx((2, 2, 1, 0.2, 2, 2 * root, 1 / root, 0.2 * root), rel=1e-12)


def test_a_complex_parameter_counts_both_parts() -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.z = nn.Parameter(torch.tensor([3 + 4j]))

    for word in ("zero_grad", "no_zero_grad"):
        task = Task(Complex(), [None], lambda model, _: model.z.abs().square().sum() / 2)
        first, *_ = geometry_of(rows_of(word, task, steps=1, epochs=None))
        assert first == pytest.approx((5.0, 5.0, 1.0, 0.5))


def test_gradients_that_the_loss_asks_for_itself_do_not_count() -> None:
    def penalised(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        loss = mean_loss(model, batch)
        torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        return loss

    plain, asking = (
        geometry_of(rows_of("no_zero_grad", Task(net(), batches(), loss))) for loss in (mean_loss, penalised)
    )
    assert asking == plain


# Measuring changes nothing


def trained(
    mode: str, name: str, options: dict[str, Any], optimizer: str, settings: dict[str, Any], **more: Any
) -> Any:
    """Return the losses, the final weights and the gradients that are left."""
    task = tasks.build(tasks.find(name), 7, options)
    rows = rows_of(mode, task, optimizer, settings=settings, **more)
    parameters = list(task.model.parameters())
    return [row._replace(geometry=None) for row in rows], parameters, [each.grad for each in parameters]


def check_unchanged(*training: Any) -> None:
    (rows, weights, grads), (others, other_weights, other_grads) = (
        trained(*training, geometry=geometry) for geometry in (True, False)
    )
    assert rows == others
    assert all(map(torch.equal, weights, other_weights))
    for one, other in zip(grads, other_grads, strict=True):
        assert one is other if one is None or other is None else torch.equal(one, other)


@pytest.mark.parametrize(("mode", "task"), each_with_each(MODES, TABLE))
def test_measuring_changes_no_bit_of_any_mode(mode: str, task: tuple[str, dict[str, Any]]) -> None:
    check_unchanged(mode, *task, "SGD", {"lr": 0.01})


@pytest.mark.parametrize(("optimizer", "settings"), OPTIMIZERS)
def test_measuring_changes_no_bit_with_any_optimizer(optimizer: str, settings: dict[str, Any]) -> None:
    check_unchanged("keep=0.5,every=4", "noisy_line", {"samples": 10}, optimizer, settings)


@pytest.mark.parametrize("end", ["ends", "is left", "fails"])
def test_no_hook_outlives_the_training(end: str) -> None:
    calls: list[int] = []

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        calls.append(1)
        if end == "fails" and len(calls) == 3:
            raise ZeroDivisionError
        return mean_loss(model, batch)

    model, cursor = net(), Cursor()
    nodes = [get_gradient_edge(each).node for each in model.parameters()]  # which live on, as in a graph that is kept
    optimizer = optimizers.build("SGD", model.parameters(), {"lr": LR})
    rows = train(Task(model, batches(), loss), "no_zero_grad", optimizer, epochs=1, cursor=cursor, geometry=True)
    next(rows)
    if end == "ends":
        list(rows)
    elif end == "is left":
        rows.close()  # type: ignore[attr-defined]  # train is a generator
    else:
        with pytest.raises(ZeroDivisionError):
            list(rows)
    cursor.fresh = []
    mean_loss(model, batches()[0]).backward()  # type: ignore[no-untyped-call]  # torch's
    assert cursor.fresh == []
    assert len(nodes) == 4
