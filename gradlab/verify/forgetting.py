"""Forgetting zero_grad(): backward() adds, and the optimizer steps along a sum."""

from __future__ import annotations

import math
from collections import deque
from itertools import chain, islice, repeat
from statistics import fmean, median
from typing import TYPE_CHECKING

from gradlab import modes, optimizers
from gradlab.analysis import curves, quadratic, theory
from gradlab.analysis.intervals import Difference, paired_difference
from gradlab.engines import loop
from gradlab.tasks import Task
from gradlab.verify.claim import HOLDS, Claim, FigureValue, Measurement
from gradlab.verify.training import (
    all_equal,
    as_vector,
    build_task,
    copy_grads,
    copy_weights,
    max_difference,
    small_noisy_line,
    to_float64,
    train,
    train_rows,
)

if TYPE_CHECKING:
    from torch import Tensor

    from gradlab.analysis.quadratic import Quadratic
    from gradlab.modes import Mode

MINIBATCH_STEPS = {0.01: 200, 0.003: 400, 0.001: 1000}  # steps after which the growth is clear, by learning rate
TOO_LARGE_LR = 0.2  # for zero_grad on mini-batches
SEEDS = (0, 1, 2)
DIVERGED = 100.0  # times the first loss: far above what oscillates here, far below what diverges


def _backward_accumulates() -> Measurement:
    task = to_float64(build_task("noisy_line", 0, inputs=3, batch_size=4))
    first, second = list(task.batches)[:2]

    def after(*batches: Tensor) -> list[Tensor]:
        task.model.zero_grad()
        for batch in batches:
            task.loss(task.model, batch).backward()
        return copy_grads(task.model)

    one, other = after(first), after(second)
    both = [g + h for g, h in zip(one, other, strict=True)]
    twice = as_vector(after(first, first)) / as_vector(one)
    return Measurement(
        {"": all_equal(after(first, first), [2 * g for g in one]) and all_equal(after(first, second), both)},
        {
            "same batch: .grad after two backward() calls / after one": float(twice.max()),
            "two batches: difference between .grad and the sum of both gradients": max_difference(
                after(first, second), both
            ),
        },
    )


def _update_angles(mode: Mode) -> list[float]:
    """Return for each update the angle in degrees between `.grad` and the gradient of the batch."""
    import torch

    task = build_task("noisy_line", 0, inputs=8, batch_size=4)
    parameters = list(task.model.parameters())
    fresh: list[Tensor] = []
    angles: list[float] = []

    def loss(model: object, batch: object) -> Tensor:
        value: Tensor = task.loss(model, batch)
        fresh[:] = torch.autograd.grad(value, parameters, retain_graph=True)
        return value

    def look(*_: object) -> None:
        angles.append(_angle(as_vector(copy_grads(task.model)), as_vector(fresh)))

    optimizer = optimizers.build("SGD", parameters, {"lr": 0.003})
    optimizer.register_step_pre_hook(look)  # type: ignore[attr-defined]  # this one is torch's own
    deque(loop.train(Task(task.model, task.batches, loss), mode, optimizer, steps=300), maxlen=0)
    return angles


def _angle(u: Tensor, v: Tensor) -> float:
    """Return the angle in degrees; uses half-angles because the arc cosine is inaccurate near 0."""
    import torch

    u, v = u / u.norm(), v / v.norm()
    return float(torch.rad2deg(2 * torch.atan2((u - v).norm(), (u + v).norm())))


def _points_elsewhere() -> Measurement:
    kept, cleared = _update_angles(modes.no_zero_grad()), _update_angles(modes.zero_grad())
    return Measurement(
        {"": median(kept) > 30 and max(cleared) == 0},
        {
            "median angle to the gradient, degrees": median(kept),
            "largest angle to the gradient, degrees": max(kept),
            "share of steps at more than 90 degrees": fmean(angle > 90 for angle in kept),
            "largest angle with zero_grad, degrees": max(cleared),
        },
    )


def _rises(mode: Mode, lr: float) -> list[float]:
    """Return for each seed the mean loss of the last fifth / first tenth of the steps; inf for NaN."""
    rises = []
    for seed in SEEDS:
        task = build_task("noisy_line", seed, inputs=8)
        losses = train(task, mode, steps=MINIBATCH_STEPS.get(lr, 200), lr=lr).losses
        rises.append(fmean(losses[-(len(losses) // 5) :]) / fmean(losses[: len(losses) // 10]))
    return [math.inf if math.isnan(rise) else rise for rise in rises]


def _full_batch_line() -> Task:
    """Return a full-batch task with a quadratic loss, in float64."""
    return to_float64(build_task("straight_line", 42, loss="mse"))


def _quadratic() -> Quadratic:
    found = quadratic.measure(_full_batch_line())
    assert found, "squared error of a line is a quadratic"
    return found


def _full_batch(steps: int = 2000) -> tuple[str, float, float, float]:
    """Train without zero_grad on the full batch at lr 1/λ, and compare with the closed form.

    Summed over all directions, λw² is twice the loss above its floor, and λ·w·G is the gradient times G. So the
    conserved quantity needs no eigenvectors.

    Returns:
        * The verdict.
        * The largest loss of the last tenth of the steps / that of the first tenth.
        * The relative drift of the conserved quantity.
        * The largest difference from the closed form / the first loss.
    """
    import torch

    found, task = _quadratic(), _full_batch_line()
    parameters, lr = list(task.model.parameters()), 1 / max(found.curvatures)
    (batch,) = task.batches
    rows = []
    quantity = [
        sum(theory.conserved_quantity(lr, *each, 0.0) for each in zip(found.curvatures, found.amplitudes, strict=True))
    ]
    for row in train_rows(task, modes.no_zero_grad(), steps=steps, lr=lr):
        rows.append(row)
        if row.step % 20 == 0:
            loss = task.loss(task.model, batch)
            gradient, kept = as_vector(torch.autograd.grad(loss, parameters)), as_vector(copy_grads(task.model))
            quantity.append(2 * (loss.item() - found.floor) + lr * float(kept @ kept) + lr * float(gradient @ kept))
    losses = [row.loss for row in rows]
    exact = theory.loss_trajectory(lr, found.curvatures, 1.0, steps - 1, found.amplitudes, found.floor)
    return (
        curves.verdict(rows),
        max(losses[-(steps // 10) :]) / max(losses[: steps // 10]),
        (max(quantity) - min(quantity)) / quantity[0],
        max(abs(loss - value) for loss, value in zip(losses, exact, strict=True)) / losses[0],
    )


def _mean_square_growth(lr: float, updates: int) -> Difference:
    """Return the measured growth of the mean square per update without zero_grad.

    One weight, one standard normal input per step and no noise, in 12 groups of independent runs. All second moments
    grow at one rate in the long run. The one that is conserved on full batches does so from the start.
    """
    import torch
    from torch import nn

    groups, runs = 12, 400_000 // updates
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(groups, runs, generator=generator, dtype=torch.float64) for _ in range(updates)]
    model = nn.ParameterList([torch.ones(groups, runs, dtype=torch.float64)])
    (w,) = model.parameters()
    task = Task(model, inputs, lambda model, x: (model[0] * x).square().sum() / 2)
    moments = []
    for _ in train_rows(task, modes.no_zero_grad(), steps=updates, lr=lr):
        (kept,), now = copy_grads(model), w.detach()
        moments.append((now * now + lr * kept * kept + lr * now * kept).mean(1))
    first = updates // 4
    growths = (moments[-1] / moments[first - 1]) ** (1 / (updates - first))
    found = paired_difference(growths.tolist(), [0.0] * groups)
    if found is None:
        raise ArithmeticError(f"at lr {lr:g} the mean square is not finite")
    return found


def _loss_rises() -> Measurement:
    figures: dict[str, FigureValue] = {}
    rises = matches_theory = True
    for lr in MINIBATCH_STEPS:
        kept = _rises(modes.no_zero_grad(), lr)
        rises = rises and min(kept) > 3
        figures[f"mini-batches, lr {lr:g}: smallest growth factor of the loss"] = min(kept)
    for lr, updates in {0.1: 40, 0.01: 200}.items():
        measured = _mean_square_growth(lr, updates)
        growth = theory.mean_square_growth(lr, 1.0, 2.0, 1.0)  # λ 1, variance 2
        matches_theory = matches_theory and abs(measured.mean - growth) < measured.half_width
        figures[f"one random input, lr {lr:g}: growth factor of the mean square per step"] = (
            f"{measured.mean:.5f} ± {measured.half_width:.5f}"
        )
        figures[f"one random input, lr {lr:g}: growth factor by theory"] = f"{growth:.5f}"
    falls = max(_rises(modes.zero_grad(), 0.01)) < 1
    verdict, highest, drift, off_theory = _full_batch()
    figures |= {
        "full batch, 2000 steps: verdict": verdict,
        "full batch: highest late loss / highest early loss": highest,
        "full batch: relative drift of the conserved quantity": drift,
        "full batch: largest relative difference from the closed form": off_theory,
    }
    bounded = verdict == "oscillates" and highest < 1.01 and drift < 1e-9
    return Measurement(
        {
            "batches are mini-batches (after enough steps, at every lr tested)": rises,
            "batches are full (the loss oscillates for ever)": not bounded,
        },
        figures,
        {
            "with zero_grad the loss falls": falls,
            "with one random input the mean square grows as theory predicts": matches_theory,
            "the full batch follows the closed form": off_theory < 1e-9,
        },
    )


def _highest_loss(mode: Mode, share: float) -> float:
    """Return the largest loss / first loss of 100 full-batch steps at lr = share/λ."""
    losses = train(_full_batch_line(), mode, steps=100, lr=share / max(_quadratic().curvatures)).losses
    return max(losses) / losses[0]


def _zero_grad_cures() -> Measurement:
    (kept, cleared), (kept_at_too_large, cleared_at_too_large) = (
        [_rises(mode, lr) for mode in (modes.no_zero_grad(), modes.zero_grad())] for lr in (0.01, TOO_LARGE_LR)
    )
    kept_full, cleared_full = _highest_loss(modes.no_zero_grad(), 3), _highest_loss(modes.zero_grad(), 3)
    steepest = max(_quadratic().curvatures)
    lr = 3 / steepest
    return Measurement(
        {
            "batches are mini-batches and zero_grad is stable at the lr": min(kept) > DIVERGED and max(cleared) < 1,
            "batches are mini-batches and the lr is too large": min(cleared_at_too_large) < DIVERGED,
            "batches are full and 2/λ < lr < 4/λ (only zero_grad diverges there)": cleared_full < DIVERGED,
        },
        {
            "mini-batches, lr 0.01, never cleared: smallest growth factor of the loss": min(kept),
            "mini-batches, lr 0.01, zero_grad: largest growth factor of the loss": max(cleared),
            f"mini-batches, lr {TOO_LARGE_LR:g}, zero_grad: smallest growth factor of the loss": min(
                cleared_at_too_large
            ),
            "full batch: λ": steepest,
            "full batch, lr 3/λ, never cleared: highest loss / first loss": kept_full,
            "full batch, lr 3/λ, zero_grad: highest loss / first loss": cleared_full,
            "full batch, lr 4.5/λ, never cleared: highest loss / first loss": _highest_loss(modes.no_zero_grad(), 4.5),
        },
        {
            f"without zero_grad, lr {TOO_LARGE_LR:g} diverges too": min(kept_at_too_large) > DIVERGED,
            "without zero_grad, the full-batch loss stays bounded": kept_full < DIVERGED,
            "theory predicts the same": (theory.outcome(lr, steepest, 0.0), theory.outcome(lr, steepest, 1.0))
            == ("diverges", "oscillates for ever"),
        },
    )


def _train_under_scaler(scale: float, steps: int) -> list[Tensor]:
    """Train with a GradScaler whose scale is constant, never clear, and return the weights."""
    import torch

    task = small_noisy_line()
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=steps + 1)
    for batch in islice(chain.from_iterable(repeat(task.batches)), steps):
        scaler.scale(task.loss(task.model, batch)).backward()
        scaler.step(optimizer)
        scaler.update()
    return copy_weights(task.model)


def _kept_under_scaler() -> Measurement:
    """Compare with keep = 1/scale. Powers of two are exact, and so is the comparison."""
    steps, scales = 100, (1.0, 16.0, 1024.0)
    scaled = [_train_under_scaler(scale, steps) for scale in scales]
    ruled = [train(small_noisy_line(), modes.rule(1 / scale, 1), steps=steps, lr=0.01).weights for scale in scales]
    cleared = train(small_noisy_line(), modes.zero_grad(), steps=steps, lr=0.01).weights
    figures: dict[str, FigureValue] = {
        f"scale {scale:g}, {steps} steps: weight difference from keep = {1 / scale:.3g}": max_difference(one, other)
        for scale, one, other in zip(scales, scaled, ruled, strict=True)
    }
    off = max_difference(scaled[-1], cleared)
    figures[f"scale {scales[-1]:g}, {steps} steps: weight difference from zero_grad"] = off
    return Measurement(
        {"": all(all_equal(one, other) for one, other in zip(scaled, ruled, strict=True))},
        figures,
        {"keeping 1/scale differs from clearing": off > 0},
    )


CLAIMS = (
    Claim("backward-accumulates", "backward() adds to .grad instead of overwriting it.", HOLDS, _backward_accumulates),
    Claim(
        "kept-gradient-points-elsewhere",
        "Without zero_grad(), the optimizer does not step along the current gradient.",
        HOLDS,
        _points_elsewhere,
    ),
    Claim(
        "loss-rises-without-zero-grad",
        "Without zero_grad(), the loss rises.",
        "holds when batches are mini-batches (after enough steps, at every lr tested); "
        "not when batches are full (the loss oscillates for ever)",
        _loss_rises,
    ),
    Claim(
        "zero-grad-cures-divergence",
        "Calling zero_grad() cures a diverging loss.",
        "holds when batches are mini-batches and zero_grad is stable at the lr; "
        "not when batches are mini-batches and the lr is too large, "
        "or batches are full and 2/λ < lr < 4/λ (only zero_grad diverges there)",
        _zero_grad_cures,
    ),
    Claim(
        "unscale-divides-kept-gradients",
        "Never clearing under a GradScaler keeps 1/scale of the gradient, because unscale_() divides all of .grad.",
        HOLDS,
        _kept_under_scaler,
    ),
)
