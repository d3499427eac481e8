"""Sharpness: Lanczos finds the largest eigenvalue of the Hessian, and the lr that training bears follows from it."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from typer.testing import CliRunner

from gradlab import experiment, modes, optimizers, tasks
from gradlab.analysis import quadratic, sharpness, theory
from gradlab.analysis.sharpness import MAX_BASIS, TOLERANCE, largest_eigenvalue, measure
from gradlab.cli import app
from gradlab.engines.loop import train
from gradlab.errors import ExperimentError, GradlabError, TaskError
from gradlab.experiment import Override
from gradlab.tasks import Minibatches, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradlab.analysis.sharpness import SharpnessReport

EXACT = 1e-12  # relative: where Lanczos ends in as many steps as there are dimensions, float64 rounding is left


class Weights(nn.Module):
    def __init__(self, *start: float, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start, dtype=dtype))


def of_weights(loss: Callable[[Tensor], Any], *start: float) -> Task:
    """Return the task of that loss of the weights, which has no data."""
    return Task(Weights(*start), [None], lambda model, _: loss(model.w))


def with_spectrum(*curvatures: float) -> Task:
    """Return the quadratic ½·Σ λ·w² with these λ, in float64."""
    scale = torch.tensor(curvatures, dtype=torch.float64)
    return of_weights(lambda w: (0.5 * scale * w * w).sum(), *[1.0] * len(curvatures))


def mlp(*extra: nn.Module, batch_size: int = 12, dtype: torch.dtype = torch.float64) -> Task:
    """Return a regression of 12 points by a small MLP, which draws from the global generators."""
    torch.manual_seed(7)
    x = torch.randn(12, 2, dtype=dtype)
    model = nn.Sequential(nn.Linear(2, 5), *extra, nn.Tanh(), nn.Linear(5, 1)).to(dtype)
    batches = [(x[at : at + batch_size], x[at : at + batch_size, :1].sin()) for at in range(0, 12, batch_size)]
    return Task.supervised(model, batches, nn.MSELoss())


def dense(task: Task) -> Tensor:
    """Return the Hessian of the task's mean loss over its batches, in float64, by torch.func."""
    trained = {name: each.detach().double() for name, each in task.model.named_parameters() if each.requires_grad}

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = task.model.double()

        def forward(self, batch: Any) -> Any:
            return task.loss(self.inner, batch)

    parts = Parts()
    batches = list(task.batches)

    def mean_loss(flat: Tensor) -> Tensor:
        pieces = torch.split(flat, [each.numel() for each in trained.values()])
        given = {f"inner.{name}": piece.view_as(trained[name]) for name, piece in zip(trained, pieces, strict=True)}
        losses: list[Tensor] = [functional_call(parts, given, (batch,)) for batch in batches]
        return torch.stack(losses).mean()

    at = torch.cat([each.reshape(-1) for each in trained.values()])
    pull = torch.func.vjp(torch.func.grad(mean_loss), at)[1]
    found: Tensor = torch.func.vmap(pull)(torch.eye(len(at), dtype=torch.float64))[0]
    return found


# The eigenvalue


@pytest.mark.parametrize(
    "spectrum",
    [(3.0,), (0.5, 2.0, 8.0), (-100.0, 1.0, 2.0), (-3.0, -2.0, -1.0), (0.0, 0.0), (4.0, 4.0, 1.0), (1e-9, 1e-10)],
)
def test_the_largest_eigenvalue_is_found_beside_a_negative_one(
    spectrum: tuple[float, ...],
) -> None:
    found = measure(with_spectrum(*spectrum))
    assert found.eigenvalue == pytest.approx(max(spectrum), rel=EXACT, abs=1e-14)


def test_the_eigenvalue_is_found_with_restarts() -> None:
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(400, 400, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.T
    matrix[0, 0] -= 300  # far below, so that a power iteration would find this
    products = 0

    def product(vector: Tensor) -> Tensor:
        nonlocal products
        products += 1
        return matrix @ vector

    start = torch.randn(400, generator=generator, dtype=torch.float64)
    value, residual = largest_eigenvalue(product, start, 1e-8, 1e-16, 1000)
    wanted = torch.linalg.eigvalsh(matrix)
    assert wanted[0].abs() > wanted[-1]
    assert products > MAX_BASIS
    assert value == pytest.approx(wanted[-1].item(), rel=1e-12)  # the square of the tolerance, and rounding
    assert residual <= 1e-8 * value


def test_an_eigenvalue_is_as_near_as_the_residual_says() -> None:
    matrix = torch.diag(torch.linspace(0, 1, 200, dtype=torch.float64) ** 2)
    start = torch.ones(200, dtype=torch.float64)
    for tolerance in (0.3, 0.03, 0.003):
        value, residual = largest_eigenvalue(lambda v: matrix @ v, start, tolerance, 1e-16, 1000)
        assert residual <= tolerance * value
        assert (matrix.diagonal() - value).abs().min() <= residual


def test_of_an_mlp_it_is_that_of_the_dense_hessian() -> None:
    task = mlp()
    found = measure(task)
    values = torch.linalg.eigvalsh(dense(task))
    # ‖Hv − λv‖ is at most 1e-4 of λ; divided by the distance to the next eigenvalue and squared, it is λ's error
    assert found.eigenvalue == pytest.approx(values[-1].item(), rel=1e-6)


def test_sharpness_of_digits_is_what_lobpcg_finds() -> None:
    task = tasks.build(tasks.find("digits"), 3, {"hidden": 4, "batch_size": 1797})
    found = measure(task)
    pixels, labels = next(iter(task.batches))
    hessian = dense(Task.supervised(task.model, [(pixels.double(), labels)], nn.CrossEntropyLoss()))
    start = torch.randn(len(hessian), 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (wanted,), _ = torch.lobpcg(hessian, k=1, X=start, niter=500, tol=1e-9)
    assert found.eigenvalue == pytest.approx(wanted.item(), rel=1e-4)  # training is in float32, and the tolerance


def test_it_is_the_largest_curvature_of_a_quadratic() -> None:
    task = tasks.build(tasks.find("straight_line"), 1, {"loss": "mse"})
    exact = quadratic.measure(task)
    assert exact
    assert measure(task).eigenvalue == pytest.approx(max(exact.curvatures), rel=1e-6)  # measured in float32


def test_mini_batches_sum_to_the_full_batch() -> None:
    whole, cut = measure(mlp()), measure(mlp(batch_size=4))
    assert (whole.batches, cut.batches) == (1, 3)
    assert cut.eigenvalue == pytest.approx(whole.eigenvalue, rel=EXACT)


def test_a_pair_of_sum_and_count_is_weighted_by_its_items() -> None:
    x = torch.arange(1.0, 8.0, dtype=torch.float64)

    def pair(model: Weights, batch: Tensor) -> tuple[Tensor, int]:
        return (0.5 * batch * model.w * model.w).sum(), len(batch)

    found = measure(Task(Weights(1.0), [x[:2], x[2:]], pair))
    assert found.eigenvalue == pytest.approx(x.mean().item(), rel=EXACT)


def test_a_shuffled_last_batch_that_is_shorter_makes_no_noise() -> None:
    x = torch.linspace(0, 2, 11).unsqueeze(1)
    batches = Minibatches(x, x.cos(), 3, torch.Generator().manual_seed(2))
    task = Task.supervised(nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)), batches, nn.MSELoss())
    assert measure(task).residual <= TOLERANCE * measure(task).eigenvalue


def test_the_start_vector_matters_less_than_the_tolerance() -> None:
    found = [measure(mlp(), seed=seed).eigenvalue for seed in range(5)]
    assert max(found) - min(found) <= TOLERANCE * min(found)
    assert measure(mlp(), seed=1) == measure(mlp(), seed=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_measured_in_the_precision_of_the_model(dtype: torch.dtype) -> None:
    seen = []

    def loss(model: Weights, _: None) -> Tensor:
        seen.append(model.w.dtype)
        return (model.w**4).sum()

    found = measure(Task(Weights(1.0, 2.0, dtype=dtype), [None], loss))
    assert set(seen) == {dtype}
    assert found.eigenvalue == pytest.approx(48.0, rel=1e-6)  # 12·w², exact but for float32


# Models of all kinds


def test_frozen_weights_are_no_directions_and_unused_ones_flat() -> None:
    task = with_spectrum(2.0, 5.0)
    task.model.register_parameter("unused", nn.Parameter(torch.ones(3)))
    task.model.register_parameter("frozen", nn.Parameter(torch.ones(3), requires_grad=False))
    assert measure(task).eigenvalue == pytest.approx(5.0, rel=EXACT)


def test_sparse_gradients_count_as_dense_ones() -> None:
    def embedded(*, sparse: bool) -> float:
        torch.manual_seed(1)
        model = nn.Embedding(6, 2, sparse=sparse, dtype=torch.float64)
        rows = [torch.tensor([0, 1, 2]), torch.tensor([2, 3])]
        return measure(Task(model, rows, lambda model, batch: model(batch).pow(4).mean())).eigenvalue

    assert embedded(sparse=True) == pytest.approx(embedded(sparse=False), rel=EXACT)


def test_a_loss_without_curvature_has_the_sharpness_0() -> None:
    assert measure(of_weights(lambda w: w.abs().sum(), 1.0, -2.0)).eigenvalue == 0.0


def test_dropout_drops_the_same_at_each_pass() -> None:
    found = measure(mlp(nn.Dropout(0.5)))
    assert found.residual <= TOLERANCE * found.eigenvalue
    assert found.eigenvalue != measure(mlp(nn.Dropout(0.0))).eigenvalue


def test_batch_norm_normalises_by_the_batch_as_in_training() -> None:
    task = mlp(nn.BatchNorm1d(5))
    norm = task.model[1]  # type: ignore[index]  # a Sequential, which a Module does not say
    found = measure(task).eigenvalue
    norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None  # torch.func refuses these
    norm.num_batches_tracked = None
    assert found == pytest.approx(torch.linalg.eigvalsh(dense(task))[-1].item(), rel=1e-6)


def test_measuring_restores_model_gradients_and_generators() -> None:
    task = mlp(nn.BatchNorm1d(5), nn.Dropout(0.5))
    shuffled = Minibatches(torch.ones(12, 2, dtype=torch.float64), torch.ones(12, 1), 4, torch.Generator())
    task = Task(task.model, shuffled, task.loss)
    before = {name: each.clone() for name, each in task.model.state_dict().items()}
    torch.manual_seed(3)
    random.seed(3)
    drawn = torch.get_rng_state(), random.getstate(), shuffled.generator.get_state()
    task = Task(task.model, shuffled, lambda model, batch: model(batch[0]).square().mean())
    measure(task)
    assert all(torch.equal(each, before[name]) for name, each in task.model.state_dict().items())
    assert all(each.grad is None for each in task.model.parameters())
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert random.getstate() == drawn[1]
    assert torch.equal(shuffled.generator.get_state(), drawn[2])


# What cannot be measured is told in a line


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return cast("Tensor", 2 * x * grad)


def once_differentiable(w: Tensor) -> Any:
    return Once.apply(w).square().sum()  # type: ignore[no-untyped-call]  # torch's


class Endless:
    """A batch that no generator known to anyone draws."""

    drawn = 0

    def __iter__(self) -> Iterator[Tensor]:
        Endless.drawn += 1
        yield torch.tensor(float(Endless.drawn), dtype=torch.float64)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            of_weights(once_differentiable, 1.0),
            "cannot be differentiated twice: .*once_differentiable",
        ),
        (of_weights(lambda w: w.sum() * math.nan, 1.0), "the loss of batch 0 is nan at the initial weights"),
        (of_weights(lambda w: (w**1.5).sum(), 0.0), "second derivative of the loss is not finite"),
        (of_weights(lambda w: w, 1.0, 2.0), "must be a scalar tensor"),
        (of_weights(lambda w: w.detach().sum(), 1.0), "has no graph"),
        (of_weights(lambda w: (w.sum(), 0), 1.0), "must be greater than 0"),
        (Task(Weights(1.0), [], lambda model, _: model.w.sum()), "no batch"),
        (
            Task(Weights(1.0, 2.0), Endless(), lambda model, x: x * model.w[0] ** 2 + model.w[1]),
            "differs between passes",
        ),
        (Task(nn.Linear(1, 1, dtype=torch.complex64), [0], lambda *_: None), "complex"),
    ],
)
def test_what_has_no_sharpness_is_an_error_of_one_line(task: Task, message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        measure(task)
    assert "\n" not in str(caught.value)


def test_no_convergence_is_an_error_with_the_residual() -> None:
    with pytest.raises(TaskError, match=r"not converged after 2 .*: \S+ ± "):
        measure(with_spectrum(1.0, 2.0, 3.0, 4.0), max_products=2)


# The largest stable lr


def report(task: str = "straight_line", **given: Any) -> SharpnessReport:
    values = {"task_options": {"loss": "mse"} if task == "straight_line" else {}, **given}
    chosen = experiment.from_task(task, [Override((key,), value, key) for key, value in values.items()])
    return sharpness.report(chosen, dict(sharpness.measure_seeds(chosen)))


def losses(mode: str, options: dict[str, Any], steps: int = 400) -> list[float]:
    task = tasks.build(tasks.find("straight_line"), 42, {"loss": "mse"})
    task.model.double()
    batches = [tuple(each.double() for each in batch) for batch in task.batches]
    optimizer = optimizers.build("SGD", task.model.parameters(), options)
    ours = Task(task.model, batches, task.loss)
    return [row.loss for row in train(ours, modes.parse(mode), optimizer, steps=steps)]


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("halve_grad", {}),
        ("accumulate:4:sum", {}),  # an epoch of one batch closes each window
        ("zero_grad", {"momentum": 0.9, "dampening": 0.5}),
        ("zero_grad", {"dampening": 0.5}),  # which without momentum does nothing
        ("halve_grad", {"momentum": 0.5}),
        ("no_zero_grad", {}),
        ("zero_grad", {"momentum": 1.0}),
    ],
)
def test_training_is_stable_below_the_edge_and_not_above(mode: str, options: dict[str, Any]) -> None:
    (bound,) = report(modes=[mode], optimizer={"name": "SGD", **options}).bounds
    assert bound.largest_stable_lr
    below, above = (losses(mode, {"lr": share * bound.largest_stable_lr, **options}) for share in (0.9, 1.1))
    assert max(below[-50:]) < 20 * below[0]
    assert above[-1] > 1e3 * above[0]


@pytest.mark.parametrize("mode", ["keep=1.5", "keep=-1", "no_zero_grad"])
def test_no_lr_is_stable_where_too_much_is_kept(mode: str) -> None:
    (bound,) = report(modes=[mode], optimizer={"name": "SGD", "momentum": 0.5}).bounds
    assert bound.largest_stable_lr == 0
    assert "at every lr" in bound.why


def test_on_mini_batches_no_lr_is_stable_at_keep_1() -> None:
    found = report("noisy_line", modes=["zero_grad", "no_zero_grad", "keep=1,every=40", "keep=1,every=39"])
    assert [bound.largest_stable_lr == 0 for bound in found.bounds] == [False, True, False, True]
    assert "oscillates for ever" in found.bounds[2].why
    assert any("40 batches" in note for note in found.notes())


def test_a_summed_window_divides_the_lr_by_its_batches() -> None:
    found = report("noisy_line", modes=["zero_grad", "accumulate:4", "accumulate:4:sum", "accumulate:100:sum"])
    plain = found.bounds[0].largest_stable_lr
    assert plain == pytest.approx(theory.largest_stable_lr(found.eigenvalue, 0.0))
    assert [bound.largest_stable_lr for bound in found.bounds] == pytest.approx([plain, plain, plain / 4, plain / 40])  # type: ignore[operator]  # it is known


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"optimizer": {"name": "Adam"}}, "Adam"),
        ({"optimizer": {"name": "SGD", "weight_decay": 0.1}}, "weight_decay"),
        ({"optimizer": {"name": "SGD", "momentum": 0.9, "nesterov": True}}, "nesterov"),
        ({"optimizer": {"name": "SGD", "momentum": 0.9, "dampening": 1.0}}, "dampening"),
        ({"clip_norm": 1.0}, "clipped"),
        ({"schedule": "linear"}, "schedule"),
    ],
)
def test_without_theory_the_lr_is_not_told_but_sharpness_is(given: dict[str, Any], reason: str) -> None:
    found = report(**given)
    assert found.eigenvalue > 0
    assert {bound.largest_stable_lr for bound in found.bounds} == {None}
    assert all(reason in bound.why for bound in found.bounds)


def test_without_curvature_no_lr_is_bounded() -> None:
    found = report(task_options={"loss": "l1"}, modes=["zero_grad", "keep=2"])
    assert [bound.largest_stable_lr for bound in found.bounds] == [math.inf, 0]


# The command

OWN = """
import torch
from gradlab import Task

def raises(seed: int) -> Task:
    print("talk")
    return Task(torch.nn.Linear(1, 1), [1], lambda model, batch: 1 / 0)
"""


def test_the_command_reports_seeds_median_and_lr_of_modes() -> None:
    args = ["sharpness", "--task", "noisy_line", "--seed", "0", "--seed", "1", "--seed", "2", "-m", "halve_grad"]
    told = json.loads(CliRunner().invoke(app, [*args, "--json"]).stdout)
    each = [found["sharpness"] for found in told["seeds"]]
    assert [found["seed"] for found in told["seeds"]] == [0, 1, 2]
    assert told["sharpness"] == sorted(each)[1]
    assert told["batches"] == 40
    (mode,) = told["modes"]
    assert mode == {
        "mode": "halve_grad",
        "lr": 0.01,
        "largest_stable_lr": pytest.approx(3 / sorted(each)[1]),
        "why": "",
    }
    printed = CliRunner().invoke(app, args).stdout
    assert all(f"{value:.4g}" in printed for value in (*each, told["sharpness"], mode["largest_stable_lr"]))


@pytest.mark.parametrize("columns", [40, 80])
def test_what_it_prints_fits_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    args = ["sharpness", "--task", "straight_line", "--set", "task_options.loss=mse", "-m", "accumulate:4:sum"]
    printed = CliRunner().invoke(app, [*args, "-m", "no_zero_grad"]).stdout
    assert max(map(len, printed.splitlines())) <= columns
    assert "largest stable lr" in printed


def test_what_a_users_task_raises_is_told_with_its_own_frames() -> None:
    Path("own.py").write_text(OWN)
    done = CliRunner().invoke(app, ["sharpness", "--task", "own.py:raises", "--json"])
    assert done.exit_code == 2
    message = json.loads(done.stdout)["error"]["message"]
    assert message.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert 'own.py", line 7' in message
    assert "gradlab/sharpness.py" not in message


def test_a_device_that_is_not_there_is_told_in_a_line() -> None:
    with pytest.raises(GradlabError, match="device 'mps' is not available") as caught:
        report(device="mps")
    assert isinstance(caught.value, ExperimentError)
