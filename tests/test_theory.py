"""Theory: the closed forms and the training loop, which know nothing of one another, agree."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from gradlab import modes
from gradlab.analysis import theory
from gradlab.engines.loop import train
from gradlab.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

KEEPS = [0.0, 0.5, 0.9, 1.0, -0.3]
CURVATURES = [0.3, 1.0, 2.5]
STARTS = [1.0, -0.7, 2.0]

each_keep = pytest.mark.parametrize("keep", KEEPS)


# What the closed forms are compared with


class Trained(NamedTuple):
    """A training in float64: row t holds what was when loss t was computed."""

    losses: list[float]
    errors: Tensor  # shape (steps, n)
    left: Tensor  # shape (steps, n): .grad before the backward pass
    seen: Tensor  # shape (steps, n): .grad as the update saw it


class Weights(nn.Module):
    def __init__(self, start: Sequence[float] | Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.as_tensor(start, dtype=torch.float64).clone())


class Watched(torch.optim.SGD):
    """SGD that remembers the gradient of each update."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.seen: list[Tensor] = []

    def step(self, closure: Any = None) -> Any:
        self.seen.append(self.param_groups[0]["params"][0].grad.clone())
        return super().step(closure)


def trained(
    lr: float, curvatures: Sequence[float], keep: float, steps: int, starts: Sequence[float], floor: float = 0.0
) -> Trained:
    """Train floor + Σ ½λw² by torch's SGD under the mode of that keep."""
    model, scale = Weights(starts), torch.tensor(curvatures, dtype=torch.float64)
    task = Task(model, [None], lambda model, _: floor + (0.5 * scale * model.w**2).sum())
    optimizer = Watched([model.w], lr)
    losses, errors, left = [], [model.w.detach().clone()], [torch.zeros_like(scale)]
    for row in train(task, modes.rule(keep), optimizer, steps=steps):
        losses.append(row.loss)
        errors.append(model.w.detach().clone())
        left.append(torch.zeros_like(scale) if model.w.grad is None else model.w.grad.clone())
    return Trained(losses, torch.stack(errors[:-1]), torch.stack(left[:-1]), torch.stack(optimizer.seen))


def many(
    start: float, count: int, keep: float, lr: float, batches: Iterable[Any], loss: Callable[[Tensor, Any], Tensor]
) -> list[Tensor]:
    """Train `count` weights at once, each for itself; return what they were before the first and after each step."""
    model = Weights(torch.full((count,), start, dtype=torch.float64))
    task = Task(model, batches, lambda model, batch: loss(model.w, batch).sum())
    weights = [model.w.detach().clone()]
    rows = train(task, modes.rule(keep), torch.optim.SGD([model.w], lr), epochs=1)
    return [*weights, *(model.w.detach().clone() for _ in rows)]


# Trajectories


@each_keep
@pytest.mark.parametrize("share", [0.002, 0.2, 0.5, 0.97, 1.03])
def test_errors_and_losses_are_those_of_training(keep: float, share: float) -> None:
    lr, steps, floor = share * theory.largest_stable_lr(max(CURVATURES), keep), 200, 0.25
    ours = trained(lr, CURVATURES, keep, steps, STARTS, floor)
    # Both sides round at each step, so that they part by some 200·2⁻⁵³ ≈ 2e-14 of the state, that is of the error and
    # of the update that led to it: 1e-9 of both leaves room for what a double root magnifies, t-fold.
    size = ours.errors.abs()
    size[1:] += lr * ours.seen[:-1].abs()
    for nth, (curvature, start) in enumerate(zip(CURVATURES, STARTS, strict=True)):
        errors = torch.tensor(theory.trajectory(lr, curvature, keep, steps - 1, start), dtype=torch.float64)
        assert ((errors - ours.errors[:, nth]).abs() <= 1e-9 * size[:, nth]).all()
    losses = theory.loss_trajectory(lr, CURVATURES, keep, steps - 1, STARTS, floor)
    scales = floor + (0.5 * torch.tensor(CURVATURES) * size**2).sum(1)
    assert len(losses) == len(ours.losses) == steps
    for expected, loss, scale in zip(losses, ours.losses, scales.tolist(), strict=True):
        assert abs(expected - loss) <= 1e-9 * scale


@pytest.mark.parametrize(("lr", "keep"), [(0.25, 0.25), (2.25, 0.25), (1.0, 0.0), (4.0, 1.0)])
def test_a_double_root_is_no_exception(lr: float, keep: float) -> None:
    p, q = theory.roots(lr, 1.0, keep)
    assert p == q
    errors = trained(lr, [1.0], keep, 50, [1.0]).errors[:, 0].tolist()
    assert theory.trajectory(lr, 1.0, keep, 49) == pytest.approx(errors, rel=1e-13)  # 50 roundings of 2⁻⁵³, twice


@given(
    keep=st.floats(-1.5, 1.5),
    a=st.floats(1e-9, 6.0),
    near=st.sampled_from([None, 0.0, 1e-15, -1e-12, 1e-8, -1e-4]),
    side=st.sampled_from([-1, 1]),
)
@example(keep=1.0, a=1e-9, near=None, side=1)
@example(keep=0.0, a=1.0, near=None, side=1)
@example(keep=1e-20, a=1.0, near=None, side=1)
@example(keep=-1.48, a=1e-8, near=None, side=1)
def test_the_trajectory_is_the_one_of_exact_fractions(keep: float, a: float, near: float | None, side: int) -> None:
    if near is not None and keep > 0:  # where the roots meet
        a = (1 + side * math.sqrt(keep)) ** 2 * (1 + near) or a
    error, moved = Fraction(1), Fraction(0)
    found = theory.trajectory(1.0, a, keep, 40)
    assert len(found) == 41
    for got in found:
        # Rounding at each of 40 steps, some 40·2⁻⁵³, times 40 where the roots meet: below 1e-12 of the state, as long
        # as a float has all its digits.
        assert abs(Fraction(got) - error) <= Fraction(1e-11) * (abs(error) + abs(moved)) + Fraction(1e-290)
        moved = Fraction(keep) * moved + Fraction(a) * error
        error -= moved


# The geometry


@each_keep
@pytest.mark.parametrize("lr", [0.1, 0.7, 0.9])
def test_the_geometry_is_the_one_of_training(lr: float, keep: float) -> None:
    steps = 60
    ours = trained(lr, CURVATURES, keep, steps, STARTS)
    fresh = ours.errors * torch.tensor(CURVATURES, dtype=torch.float64)
    moves = ours.errors[1:] - ours.errors[:-1]
    found = theory.geometry_trajectory(lr, CURVATURES, keep, steps, STARTS)
    assert len(found) == steps
    size = max(fresh.norm(dim=1).max().item(), ours.seen.norm(dim=1).max().item())
    for t, each in enumerate(found):
        # Both sides round at each of 60 steps, as in the test of the trajectory.
        assert each.fresh_norm == pytest.approx(fresh[t].norm().item(), rel=1e-9, abs=1e-11 * size)
        assert each.gradient_norm == pytest.approx(ours.seen[t].norm().item(), rel=1e-9, abs=1e-11 * size)
        assert each.update_norm == lr * each.gradient_norm
        if t < len(moves):
            assert each.update_norm == pytest.approx(moves[t].norm().item(), rel=1e-9, abs=1e-11 * size)
        cosine = (fresh[t] @ ours.seen[t] / fresh[t].norm() / ours.seen[t].norm()).item()
        assert each.cosine == pytest.approx(cosine, abs=1e-9 * size / min(each.fresh_norm, each.gradient_norm))


@pytest.mark.parametrize(("lr", "keep"), [(0.25, 0.25), (2.25, 0.25), (1.0, 0.0), (4.0, 1.0)])
def test_the_geometry_at_a_double_root_is_no_exception(lr: float, keep: float) -> None:
    found = [each.gradient_norm for each in theory.geometry_trajectory(lr, [1.0], keep, 30)]
    assert found == pytest.approx(trained(lr, [1.0], keep, 30, [1.0]).seen[:, 0].abs().tolist(), rel=1e-13)


@pytest.mark.parametrize("keep", [Fraction(1), Fraction(1, 2), Fraction(-1, 4), Fraction(9, 8)])
def test_the_norms_are_those_of_exact_fractions(keep: Fraction) -> None:
    error, grad, a = Fraction(1), Fraction(0), Fraction(3, 8)
    found = theory.geometry_trajectory(float(a), [1.0], float(keep), 40)
    assert len(found) == 40
    for each in found:
        grad = keep * grad + error
        assert each.gradient_norm == pytest.approx(abs(float(grad)), rel=1e-12, abs=1e-13)
        assert each.fresh_norm == pytest.approx(abs(float(error)), rel=1e-12, abs=1e-13)
        error -= a * grad


def test_where_a_gradient_is_zero_there_is_no_cosine() -> None:
    first, second = theory.geometry_trajectory(1.0, [1.0], 0.0, 2)  # one step to the minimum
    assert first == (1.0, 1.0, 1.0, 1.0)
    assert second[:2] == (0.0, 0.0)
    assert math.isnan(second.cosine)


def test_a_geometry_that_outgrows_a_float_has_no_cosine() -> None:
    last = theory.geometry_trajectory(10.0, [1.0, 2.0], 0.0, 400)[-1]
    assert last.gradient_norm == math.inf
    assert math.isnan(last.cosine)


def test_the_geometry_of_no_update_is_empty() -> None:
    assert theory.geometry_trajectory(0.1, [1.0], 0.5, 0) == []
    with pytest.raises(ValueError, match="updates must be at least 0, got -1"):
        theory.geometry_trajectory(0.1, [1.0], 0.5, -1)
    with pytest.raises(ValueError, match="2 amplitudes for 1 curvatures"):
        theory.geometry_trajectory(0.1, [1.0], 0.5, 3, [1.0, 2.0])


def test_what_outgrows_a_float_is_infinite_with_its_sign() -> None:
    errors = theory.trajectory(10.0, 1.0, 0.0, 401, start=-1.0)
    assert errors[400:] == [-math.inf, math.inf]
    assert theory.loss_trajectory(10.0, [1.0, 0.1], 0.0, 400)[-1] == math.inf
    assert theory.trajectory(1.0, 1.0, 1e9, 50)[-1] == -math.inf


# Roots


@given(lr=st.floats(1e-6, 10), curvature=st.floats(1e-3, 1e3), keep=st.floats(-2, 2))
@example(lr=1.0, curvature=1.0, keep=0.0)
@example(lr=1.0, curvature=1.0, keep=1e-300)
@example(lr=1.5, curvature=1.0, keep=0.5)
@example(lr=0.7, curvature=1.0, keep=-0.3)
def test_the_roots_solve_the_equation_and_multiply_to_keep(lr: float, curvature: float, keep: float) -> None:
    p, q = theory.roots(lr, curvature, keep)
    total = 1 + keep - lr * curvature
    # A few roundings of 2⁻⁵³ in terms of this size, and in lr·λ
    room = 1e-14 * (1 + abs(keep) + lr * curvature)
    assert abs(p) >= abs(q) * (1 - 1e-15)
    assert p.imag >= 0
    assert abs(p * q - keep) <= 1e-14 * abs(keep) + 1e-300
    assert abs(p + q - total) <= room
    for z in (p, q):
        assert abs(z * z - total * z + keep) <= room * (1 + abs(z))


@each_keep
def test_the_decay_rate_is_what_training_falls_or_grows_by(keep: float) -> None:
    for share in (0.1, 0.9, 1.1):
        lr, steps = share * theory.largest_stable_lr(1.0, keep), 300
        ours = trained(lr, [1.0], keep, steps + 1, [1.0])
        size = (ours.errors.abs() + lr * ours.left.abs())[:, 0]
        measured = (size[steps] / size[steps // 2]).item() ** (2 / steps)
        # An oscillation moves the size by a constant factor, say 10 at most, which counts by its 150th root.
        assert theory.decay_rate(lr, 1.0, keep) == pytest.approx(measured, rel=math.log(10) / 150)


@pytest.mark.parametrize("keep", [0.25, 0.81, 1.0])
def test_with_complex_roots_the_decay_rate_is_the_root_of_keep(keep: float) -> None:
    for a in (0.26, 1.0, 2.24):
        assert theory.decay_rate(a, 1.0, keep) == math.sqrt(keep)


# The period


@pytest.mark.parametrize(("lr", "updates"), [(1.0, 6), (2.0, 4), (3.0, 3)])
def test_at_keep_1_training_returns_after_a_whole_period(lr: float, updates: int) -> None:
    errors = trained(lr, [1.0], 1.0, 60, [1.0]).errors
    assert torch.equal(errors[updates:], errors[:-updates])
    assert not any(torch.equal(errors[less:], errors[:-less]) for less in range(1, updates))
    assert theory.period(lr, 1.0, 1.0) == pytest.approx(updates, rel=1e-15)


@pytest.mark.parametrize(("keep", "products"), [(1.0, [0.001, 0.1, 2.6, 3.9]), (0.9, [0.01, 1.0, 3.5]), (0.5, [1.0])])
def test_the_period_is_the_one_of_training(keep: float, products: list[float]) -> None:
    steps = 1500  # at keep 0.5 the error ends at 1e-226, still a normal number
    columns = trained(1.0, products, keep, steps, [1.0] * len(products)).errors.T
    changes = [int((signs[1:] != signs[:-1]).sum()) for signs in (torch.sign(each[each != 0]) for each in columns)]
    periods = [theory.period(product, 1.0, keep) or 0.0 for product in products]  # lr·λ alone counts
    # A period has two changes of sign, and both ends together may hide or add one.
    assert [2 * steps / period for period in periods] == [pytest.approx(each, abs=1) for each in changes]


@pytest.mark.parametrize(("lr", "keep"), [(0.5, 0.0), (1.0, 0.0), (0.01, 0.5), (0.25, 0.25), (0.5, -0.3), (1e-3, 1.2)])
def test_there_is_no_period_where_the_larger_root_is_positive(lr: float, keep: float) -> None:
    assert theory.period(lr, 1.0, keep) is None


@pytest.mark.parametrize(
    ("lr", "keep"), [(1.5, 0.0), (2.95, 0.5), (2.25, 0.25), (5.0, 1.0), (1.2, -0.3), (0.75, -0.25)]
)
def test_the_period_is_2_where_it_is_negative(lr: float, keep: float) -> None:
    assert theory.period(lr, 1.0, keep) == 2


@pytest.mark.parametrize(("lr", "keep"), [(0.5, 0.0), (0.01, 0.5), (1.5, 0.0), (2.95, 0.5), (1.2, -0.3)])
def test_so_does_training_with_real_roots(lr: float, keep: float) -> None:
    errors = trained(lr, [1.0], keep, 60, [1.0]).errors[20:, 0]
    flips = theory.period(lr, 1.0, keep) == 2
    assert bool((torch.sign(errors[1:]) == torch.sign(errors[:-1]) * (-1 if flips else 1)).all())


# The edges


@each_keep
def test_training_converges_below_the_largest_stable_lr_alone(keep: float) -> None:
    curvature = 2.5
    edge = theory.largest_stable_lr(curvature, keep)
    assert theory.largest_stable_lr(0.3, keep) * 0.3 == pytest.approx(edge * curvature, rel=1e-12)
    curvatures = [0.99 * curvature, 1.01 * curvature]  # it is the product of lr and λ that counts
    below, above = trained(edge, curvatures, keep, 2000, [1.0, 1.0]).errors.abs().T
    assert not above[-10:].max() < 1e8  # by then it may be no number
    assert theory.outcome(1.01 * edge, curvature, keep) == "diverges"
    if keep < 1:
        assert below[-10:].max() < 1e-8
        assert theory.outcome(0.99 * edge, curvature, keep) == "converges"
    else:
        assert below[-10:].max() > 0.9 * below.max()
        assert theory.outcome(0.99 * edge, curvature, keep) == "oscillates for ever"


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9, 1.0, -0.5])
@pytest.mark.parametrize("momentum", [0.3, 0.5, 0.9, 0.99, -0.3])
def test_with_momentum_the_edge_is_where_roots_leave_the_circle(keep: float, momentum: float) -> None:
    def radius(a: float) -> float:  # of the map of (w, G, b): G ← keep·G + λw, b ← momentum·b + G, w ← w − lr·b
        one_step = torch.tensor(
            [[1 - a, -a * keep, -a * momentum], [1.0, keep, 0.0], [1.0, keep, momentum]], dtype=torch.float64
        )
        return float(torch.linalg.eigvals(one_step).abs().max())

    edge = theory.largest_stable_lr(1.0, keep, momentum)
    assert theory.largest_stable_lr(2.0, momentum, keep) == edge / 2
    if edge:
        assert radius(0.999 * edge) < 1 < radius(1.001 * edge)
    else:
        assert keep == 1
        assert all(radius(a) > 1 for a in (1e-3, 0.1, 1.0, 4.0))


def test_momentum_alone_bears_the_lr_that_keep_alone_does() -> None:
    for keep in (*KEEPS, 1.01, -1.0):
        assert theory.largest_stable_lr(0.3, 0.0, keep) == theory.largest_stable_lr(0.3, keep)


def test_at_the_edge_the_error_flips_or_grows_linearly() -> None:
    flips = trained(3.0, [1.0], 0.5, 200, [1.0]).errors[100:, 0]
    assert theory.outcome(3.0, 1.0, 0.5) == "oscillates for ever"
    assert torch.equal(flips[1:], -flips[:-1])
    assert flips[0].abs() == 3.0  # (p − keep)/(p − q) = (−1 − ½)/(−1 + ½): all numbers here are powers of 2
    grows = trained(4.0, [1.0], 1.0, 200, [1.0]).errors[:, 0]
    assert theory.outcome(4.0, 1.0, 1.0) == "diverges"
    assert grows.tolist() == [(-1) ** t * (2 * t + 1) for t in range(200)]


@pytest.mark.parametrize("keep", [1.01, 2.0, -1.0, -1.5])
def test_beyond_1_either_way_every_lr_diverges(keep: float) -> None:
    products = [1e-2, 1.0]  # of lr and λ, which alone count
    for lr in products:
        assert theory.largest_stable_lr(1.0, keep) == 0
        assert theory.outcome(lr, 1.0, keep) == "diverges"
        assert theory.decay_rate(lr, 1.0, keep) > 1
    errors = trained(1.0, products, keep, 3000, [1.0, 1.0]).errors[-1]
    assert not (errors.square() < 2e6).any()  # by then they may be no numbers


@given(a=st.floats(1e-3, 8), keep=st.floats(-0.99, 1))
def test_the_outcome_follows_from_the_decay_rate(a: float, keep: float) -> None:
    rate = theory.decay_rate(a, 1.0, keep)
    wanted = {"converges": rate < 1, "oscillates for ever": abs(rate - 1) < 1e-7, "diverges": rate > 1 - 1e-7}
    assert wanted[theory.outcome(a, 1.0, keep)]


# What keep = 1 conserves


@pytest.mark.parametrize("a", [0.01, 1.0, 3.99])
def test_at_keep_1_no_step_changes_the_conserved_quantity(a: float) -> None:
    curvature = 2.5
    lr = a / curvature
    ours = trained(lr, [curvature], 1.0, 2000, [1.0])
    between_steps = [
        theory.conserved_quantity(lr, curvature, w, grad)
        for w, grad in zip(ours.errors[:, 0].tolist(), ours.left[:, 0].tolist(), strict=True)
    ]
    assert between_steps[0] == curvature
    # 2000 roundings of 2⁻⁵³ in terms up to 4/(4 − a) = 400 times their sum: some 1e-10
    assert between_steps == pytest.approx([curvature] * 2000, rel=1e-9)


def test_the_conserved_quantity_before_an_update_flips_a_sign() -> None:
    lr, curvature = 0.4, 2.5
    ours = trained(lr, [curvature], 1.0, 2000, [1.0])
    w, seen = ours.errors[:, 0], ours.seen[:, 0]
    squares, product = curvature * w**2 + lr * seen**2, lr * curvature * w * seen
    assert (squares - product).tolist() == pytest.approx([curvature] * 2000, rel=1e-9)
    assert (squares + product).max() > 1.5 * (squares + product).min()


@pytest.mark.parametrize("keep", [0.99, 1.01])
def test_at_another_keep_it_is_not_conserved(keep: float) -> None:
    ours = trained(0.4, [2.5], keep, 200, [1.0])
    last = theory.conserved_quantity(0.4, 2.5, ours.errors[-1, 0].item(), ours.left[-1, 0].item())
    assert last / 2.5 == pytest.approx(keep**199, rel=0.2)  # the ellipse shrinks or grows by |p·q| at each step


# Noise


@each_keep
@pytest.mark.parametrize("share", [0.02, 0.6])
def test_stationary_variance_is_that_of_a_long_noisy_training(keep: float, share: float) -> None:
    if keep == 1:
        assert theory.stationary_variance(share, 1.0, keep, 1.0) == math.inf
        return
    curvature, s, runs = 2.5, 0.3, 5_000
    lr = share * theory.largest_stable_lr(curvature, keep)
    apart = math.ceil(3 / -math.log(theory.decay_rate(lr, curvature, keep)))  # e⁻³: what a run remembers by then
    generator = torch.Generator().manual_seed(1)
    noise = (s * torch.randn(runs, generator=generator, dtype=torch.float64) for _ in range(24 * apart))
    weights = many(0.0, runs, keep, lr, noise, lambda w, e: 0.5 * curvature * w**2 + e * w)
    sample = torch.stack(weights[4 * apart :: apart])  # 21 times 5,000, all but independent
    measured = sample.square().mean().item()
    # The mean of n squares of normal numbers is right to √(2/n): 0.44 % here. Five times that, once in 10⁶.
    assert measured == pytest.approx(
        theory.stationary_variance(lr, curvature, keep, s * s), rel=5 * math.sqrt(2 / sample.numel())
    )


@given(keep=st.floats(-0.9, 0.9), curvature=st.floats(0.1, 10))
def test_small_lr_variance_is_plain_sgds_at_the_effective_lr(keep: float, curvature: float) -> None:
    lr = 1e-9
    limit = theory.small_lr_variance(lr, curvature, keep, 0.7)
    assert theory.stationary_variance(lr, curvature, keep, 0.7) == pytest.approx(limit, rel=1e-7)  # a/(2 + 2·keep)
    plain = theory.stationary_variance(theory.effective_lr(lr, keep), curvature, 0.0, 0.7)
    assert plain == pytest.approx(limit, rel=1e-7)
    assert limit == pytest.approx(theory.small_lr_variance(lr, curvature, 0.0, 0.7) / (1 - keep), rel=1e-14)


def test_without_convergence_the_stationary_variance_is_infinite() -> None:
    edge = theory.largest_stable_lr(1.0, 0.5)
    assert [theory.stationary_variance(lr, 1.0, 0.5, 1.0) for lr in (edge, 2 * edge)] == [math.inf] * 2


@pytest.mark.parametrize(("keep", "lr"), [(0.5, 0.05), (0.9, 0.01), (-0.3, 0.05), (0.0, 0.05)])
def test_the_effective_lr_is_the_total_step_along_one_gradient(keep: float, lr: float) -> None:
    pushes = [1.0] + [0.0] * 500
    moved = many(0.0, 1, keep, lr, pushes, lambda w, push: -push * w)[-1].item()
    assert moved == pytest.approx(theory.effective_lr(lr, keep), rel=1e-13)  # 500 roundings of 2⁻⁵³ at most


def test_at_keep_1_the_effective_lr_is_infinite() -> None:
    assert theory.effective_lr(0.1, 1.0) == math.inf


def moments(lr: float, curvature: float, curvature_variance: float, keep: float, steps: int) -> list[float]:
    """Return E[w²] after 0, …, `steps` steps, over all 2^steps equally likely orders of two curvatures: exactly."""
    spread = math.sqrt(curvature_variance)
    high = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=steps)), dtype=torch.float64)
    batches = [curvature + spread * high[:, step] for step in range(steps)]
    return [w.square().mean().item() for w in many(1.0, len(high), keep, lr, batches, lambda w, h: 0.5 * h * w**2)]


@pytest.mark.parametrize("keep", [0.5, 0.9, 1.0, -0.3])
@pytest.mark.parametrize(("lr", "variance"), [(0.2, 1.0), (1.0, 0.5), (1.1, 2.0), (3.0, 0.1)])
def test_the_mean_square_grows_as_that_of_all_trainings_together(lr: float, variance: float, keep: float) -> None:
    # Moments that follow linearly from three others obey m_{t+3} = x·m_{t+2} + y·m_{t+1} + z·m_t: fitted to exact
    # moments of training, the companion matrix of x, y, z has the growth as its spectral radius.
    m = torch.tensor(moments(lr, 1.0, variance, keep, 12), dtype=torch.float64)
    rows = torch.stack([m[2:-1], m[1:-2], m[:-3]], dim=1) / m[:-3, None]
    fit = torch.linalg.lstsq(rows, (m[3:] / m[:-3])[:, None])
    x, y, z = fit.solution[:, 0].tolist()
    companion = torch.tensor([[x, y, z], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    measured = torch.linalg.eigvals(companion).abs().max().item()
    # The sums over 4096 runs are right to 1e-15 or so; the fit may lose seven digits to its condition.
    assert theory.mean_square_growth(lr, 1.0, variance, keep) == pytest.approx(measured, rel=1e-8)


@pytest.mark.parametrize("keep", [0.5, 1.0])
def test_mean_square_growth_is_that_of_a_linear_regression(keep: float) -> None:
    # y = 0·x in batches of 8 points, x standard normal: the curvature mean(x²) has mean 1 and variance 2/8.
    lr, runs, size, steps = 0.3, 20_000, 8, 48
    generator = torch.Generator().manual_seed(2)
    batches = (torch.randn(runs, size, generator=generator, dtype=torch.float64) for _ in range(steps))
    weights = many(1.0, runs, keep, lr, batches, lambda w, x: 0.5 * ((w[:, None] * x) ** 2).mean(1))
    squares = torch.stack(weights).square()
    logs, errors = squares.mean(1).log(), squares.std(1) / squares.mean(1) / math.sqrt(runs)
    # The oscillation is averaged out over 12 updates, one period (11.3) or two of w²; 25 updates lie between.
    measured = (logs[-12:].mean() - logs[12:24].mean()).item() / 25
    growth = math.log(theory.mean_square_growth(lr, 1.0, 2 / size, keep))
    tolerance = 5 * errors.max().item() / 25 + 0.002  # of sampling, and of what is left of the oscillation
    assert measured == pytest.approx(growth, abs=tolerance)
    assert tolerance < abs(growth) / 4
    assert (growth > 0) == (keep == 1)


@given(lr=st.floats(1e-4, 3.9), variance=st.floats(1e-2, 10))
def test_without_zero_grad_the_mean_square_grows_at_every_lr(lr: float, variance: float) -> None:
    assert theory.mean_square_growth(lr, 1.0, variance, 1.0) > 1
    assert theory.mean_square_growth(lr / 1e4, 1.0, variance, 1.0) > 1


@given(share=st.floats(1e-3, 0.999), keep=st.floats(-0.95, 0.95), excess=st.floats(1e-3, 10))
def test_mean_square_growth_follows_the_stationary_variance(share: float, keep: float, excess: float) -> None:
    lr = share * theory.largest_stable_lr(1.0, keep)
    critical = 1 / theory.stationary_variance(lr, 1.0, keep, 1.0)
    assert theory.mean_square_growth(lr, 1.0, critical * (1 + excess), keep) > 1
    assert theory.mean_square_growth(lr, 1.0, critical / (1 + excess), keep) < 1


@given(a=st.floats(1e-3, 5), c=st.floats(1e-6, 3), keep=st.floats(-1, 1.1))
@example(a=1.0, c=0.5, keep=0.0)
def test_mean_square_growth_is_the_spectral_radius(a: float, c: float, keep: float) -> None:
    k = keep
    matrix = [
        [(1 - a) ** 2 + c, -2 * k * (1 - a), k * k],
        [a - a * a - c, k * (1 - 2 * a), -k * k],
        [a * a + c, 2 * k * a, k * k],
    ]
    radius = torch.linalg.eigvals(torch.tensor(matrix, dtype=torch.float64)).abs().max().item()
    growth = theory.mean_square_growth(1.0, a, c, keep)
    # Where all three eigenvalues meet, rounding of 2⁻⁵³ moves those of the matrix by its third root, 5e-6.
    assert growth == pytest.approx(radius, rel=1e-5, abs=1e-5)
    assert growth > theory.decay_rate(1.0, a, keep) ** 2


@each_keep
def test_with_constant_curvature_growth_is_decay_rate_squared(keep: float) -> None:
    rate = theory.decay_rate(0.3, 2.0, keep)
    assert theory.mean_square_growth(0.3, 2.0, 0.0, keep) == rate * rate
    assert theory.mean_square_growth(0.3, 2.0, 1e-12, keep) == pytest.approx(rate * rate, rel=1e-10)


# What is refused


@pytest.mark.parametrize("lr", [0.0, -0.1, math.inf, math.nan])
def test_an_lr_or_a_curvature_that_is_none_is_refused(lr: float) -> None:
    for call in (theory.roots, theory.decay_rate, theory.period, theory.outcome):
        with pytest.raises(ValueError, match="lr must be a finite number greater than 0"):
            call(lr, 1.0, 0.5)
        with pytest.raises(ValueError, match="curvature must be a finite number greater than 0"):
            call(1.0, lr, 0.5)
    with pytest.raises(ValueError, match="curvature"):
        theory.largest_stable_lr(lr, 0.5)
    with pytest.raises(ValueError, match="lr"):
        theory.effective_lr(lr, 0.5)
    with pytest.raises(ValueError, match="lr"):
        theory.conserved_quantity(lr, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.roots(1.0, 1.0, math.nan), "keep must be a finite number, got nan"),
        (lambda: theory.trajectory(1.0, 1.0, 0.5, -1), "steps must be at least 0, got -1"),
        (lambda: theory.loss_trajectory(1.0, [], 0.5, -1), "steps must be at least 0, got -1"),
        (lambda: theory.loss_trajectory(1.0, [1.0], 0.5, 3, [1.0, 2.0]), "2 amplitudes for 1 curvatures"),
        (lambda: theory.effective_lr(1.0, 1.1), "keep must lie in"),
        (lambda: theory.effective_lr(1.0, -1.0), "keep must lie in"),
        (lambda: theory.small_lr_variance(1.0, 1.0, 1.0, 1.0), "keep must lie in"),
        (lambda: theory.small_lr_variance(1.0, 1.0, 0.5, -1.0), "noise_variance must be"),
        (lambda: theory.stationary_variance(1.0, 1.0, 0.5, math.nan), "noise_variance must be"),
        (lambda: theory.mean_square_growth(1.0, 1.0, -1.0, 0.5), "curvature_variance must be"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
