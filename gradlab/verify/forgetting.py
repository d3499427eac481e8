"""What forgetting zero_grad() does: backward() adds, and the optimizer steps along a sum."""

from __future__ import annotations

import math
from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple

from gradlab import modes
from gradlab.analysis import curves, quadratic, theory
from gradlab.analysis.intervals import Difference, paired_difference
from gradlab.verify.claim import HOLDS, Claim, Measured
from gradlab.verify.trial import Trial, apart, built, equal, flat, grads_of, in_double, trial

if TYPE_CHECKING:
    from torch import Tensor

    from gradlab.analysis.quadratic import Quadratic
    from gradlab.modes import Mode
    from gradlab.tasks import Task

# Mini-batches of one sample with eight inputs: learning rates, and the steps after which the growth is plain at each.
MINIBATCHES = {0.01: 200, 0.003: 400, 0.001: 1000}
TOO_LARGE = 0.2  # for zero_grad on these
SEEDS = (0, 1, 2)
BOUND = 100.0  # times the first loss: far above what oscillates here, far below what diverges


def _accumulates() -> Measured:
    task = in_double(built("noisy_line", 0, inputs=3, batch_size=4))
    first, second = list(task.batches)[:2]

    def after(*batches: Tensor) -> list[Tensor]:
        task.model.zero_grad()
        for batch in batches:
            task.loss(task.model, batch).backward()
        return grads_of(task.model)

    one, other = after(first), after(second)
    both = [g + h for g, h in zip(one, other, strict=True)]
    twice = flat(after(first, first)) / flat(one)
    return Measured(
        {"": equal(after(first, first), [2 * g for g in one]) and equal(after(first, second), both)},
        {
            "twice the same backward(), times one": float(twice.max()),
            "two batches, off their sum": apart(after(first, second), both),
        },
    )


def _angles(mode: Mode) -> list[float]:
    """Return the angle in degrees between `.grad` as each update sees it and the gradient of its batch."""
    import torch

    from gradlab import optimizers
    from gradlab.engines import loop
    from gradlab.tasks import Task

    task = built("noisy_line", 0, inputs=8, batch_size=4)
    parameters = list(task.model.parameters())
    fresh: list[Tensor] = []
    angles: list[float] = []

    def loss(model: object, batch: object) -> Tensor:
        value: Tensor = task.loss(model, batch)
        fresh[:] = torch.autograd.grad(value, parameters, retain_graph=True)
        return value

    def look(*_: object) -> None:
        angles.append(_angle(flat(grads_of(task.model)), flat(fresh)))

    optimizer = optimizers.build("SGD", parameters, {"lr": 0.003})
    optimizer.register_step_pre_hook(look)  # type: ignore[attr-defined]  # this one is torch's own
    for _ in loop.train(Task(task.model, task.batches, loss), mode, optimizer, steps=300):
        pass
    return angles


def _angle(u: Tensor, v: Tensor) -> float:
    """Return the angle in degrees; from half-angles, since the arc cosine has no digits left near 0."""
    import torch

    u, v = u / u.norm(), v / v.norm()
    return float(torch.rad2deg(2 * torch.atan2((u - v).norm(), (u + v).norm())))


def _points_elsewhere() -> Measured:
    kept, cleared = _angles(modes.no_zero_grad()), _angles(modes.zero_grad())
    return Measured(
        {"": median(kept) > 30 and max(cleared) == 0},
        {
            "median angle, degrees": median(kept),
            "largest angle, degrees": max(kept),
            "share of steps beyond 90 degrees": fmean(angle > 90 for angle in kept),
            "largest angle with zero_grad, degrees": max(cleared),
        },
    )


def _minibatches(mode: Mode, lr: float, seed: int) -> Trial:
    return trial(built("noisy_line", seed, inputs=8), mode, steps=MINIBATCHES.get(lr, 200), lr=lr)


def _rise(run: Trial) -> float:
    """Return the mean loss of the last fifth over that of the first tenth; inf where it is no number."""
    losses = run.losses
    rise = fmean(losses[-(len(losses) // 5) :]) / fmean(losses[: len(losses) // 10])
    return math.inf if math.isnan(rise) else rise


def _line() -> Task:
    """Return a full-batch task with a quadratic loss, in float64."""
    return in_double(built("straight_line", 42, loss="mse"))


def _quadratic() -> Quadratic:
    found = quadratic.measured(_line())
    assert found, "squared error of a line is a quadratic"
    return found


class FullBatch(NamedTuple):
    """What no_zero_grad did on the full batch over many steps."""

    verdict: str
    highest: float  # the largest loss of the last tenth over the largest of the first
    drift: float  # of the conserved quantity, relative
    off_theory: float  # the largest difference to the closed form, relative to the first loss


def _full_batch(steps: int = 2000) -> FullBatch:
    """Train without zero_grad at lr 1/λ, and hold the losses against the closed form.

    Over all directions together λw² is twice the loss above its floor and λ·w·G is the gradient times G, so that the
    conserved quantity is seen without looking along the eigenvectors.
    """
    import torch

    from gradlab import optimizers
    from gradlab.engines import loop

    found, task = _quadratic(), _line()
    parameters, lr = list(task.model.parameters()), 1 / max(found.curvatures)
    (batch,) = task.batches
    optimizer = optimizers.build("SGD", parameters, {"lr": lr})
    rows = []
    quantity = [
        sum(theory.conserved_quantity(lr, *each, 0.0) for each in zip(found.curvatures, found.amplitudes, strict=True))
    ]
    for row in loop.train(task, modes.no_zero_grad(), optimizer, steps=steps):
        rows.append(row)
        if row.step % 20 == 0:
            loss = task.loss(task.model, batch)
            gradient, kept = flat(torch.autograd.grad(loss, parameters)), flat(grads_of(task.model))
            quantity.append(2 * (loss.item() - found.floor) + lr * float(kept @ kept) + lr * float(gradient @ kept))
    losses = [row.loss for row in rows]
    exact = theory.loss_trajectory(lr, found.curvatures, 1.0, steps - 1, found.amplitudes, found.floor)
    return FullBatch(
        curves.verdict(rows),
        max(losses[-(steps // 10) :]) / max(losses[: steps // 10]),
        (max(quantity) - min(quantity)) / quantity[0],
        max(abs(loss - value) for loss, value in zip(losses, exact, strict=True)) / losses[0],
    )


def _growth(lr: float, updates: int) -> Difference:
    """Return the growth of the mean square an update without zero_grad, as measured: the case that theory speaks of.

    One weight, one standard normal input a step and no noise, in 12 groups of independent runs. All second moments
    grow alike in the long run; the one that theory conserves on the full batch does so from the start.
    """
    import torch
    from torch import nn

    from gradlab import optimizers
    from gradlab.engines import loop
    from gradlab.tasks import Task

    groups, runs = 12, 400_000 // updates
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(groups, runs, generator=generator, dtype=torch.float64) for _ in range(updates)]
    model = nn.ParameterList([torch.ones(groups, runs, dtype=torch.float64)])
    (w,) = model.parameters()
    task = Task(model, inputs, lambda model, x: (model[0] * x).square().sum() / 2)
    moments = []
    for _ in loop.train(task, modes.no_zero_grad(), optimizers.build("SGD", [w], {"lr": lr}), steps=updates):
        (kept,), now = grads_of(model), w.detach()
        moments.append((now * now + lr * kept * kept + lr * now * kept).mean(1))
    first = updates // 4
    growths = (moments[-1] / moments[first - 1]) ** (1 / (updates - first))
    found = paired_difference(growths.tolist(), [0.0] * groups)
    if found is None:
        raise ArithmeticError(f"at lr {lr:g} the mean square is not finite")
    return found


def _loss_rises() -> Measured:
    figures: dict[str, float | int | str] = {}
    rises = as_theory = True
    for lr in MINIBATCHES:
        kept = [_rise(_minibatches(modes.no_zero_grad(), lr, seed)) for seed in SEEDS]
        rises = rises and min(kept) > 3
        figures[f"mini-batches, lr {lr:g}: loss grows at least, times"] = min(kept)
    for lr, updates in {0.1: 40, 0.01: 200}.items():
        measured, growth = _growth(lr, updates), theory.mean_square_growth(lr, 1.0, 2.0, 1.0)  # λ 1, variance 2
        as_theory = as_theory and abs(measured.mean - growth) < measured.half
        figures[f"one random input, lr {lr:g}: mean square grows a step, times"] = (
            f"{measured.mean:.5f} ± {measured.half:.5f}"
        )
        figures[f"theory of that, lr {lr:g}"] = f"{growth:.5f}"
    falls = max(_rise(_minibatches(modes.zero_grad(), 0.01, seed)) for seed in SEEDS) < 1
    full = _full_batch()
    figures |= {
        "full batch, 2000 steps": full.verdict,
        "full batch: highest late loss over highest early": full.highest,
        "full batch: drift of the conserved quantity": full.drift,
        "full batch: off the closed form": full.off_theory,
    }
    bounded = full.verdict == "oscillates" and full.highest < 1.01 and full.drift < 1e-9
    return Measured(
        {
            "the batches are mini-batches (sooner or later, at every lr tried)": rises,
            "they are full (it oscillates for ever)": not bounded,
        },
        figures,
        {
            "with zero_grad it falls": falls,
            "one random input grows as theory says": as_theory,
            "the full batch follows the closed form": full.off_theory < 1e-9,
        },
    )


def _highest(mode: Mode, share: float) -> float:
    """Return the largest loss of 100 full-batch steps at lr = share/λ, over the first."""
    losses = trial(_line(), mode, steps=100, lr=share / max(_quadratic().curvatures)).losses
    return max(losses) / losses[0]


def _cures() -> Measured:
    kept, cleared = (
        [_rise(_minibatches(mode, 0.01, seed)) for seed in SEEDS] for mode in (modes.no_zero_grad(), modes.zero_grad())
    )
    neither, too_large = (
        [_rise(_minibatches(mode, TOO_LARGE, seed)) for seed in SEEDS]
        for mode in (modes.no_zero_grad(), modes.zero_grad())
    )
    forgotten, called = _highest(modes.no_zero_grad(), 3), _highest(modes.zero_grad(), 3)
    steepest = max(_quadratic().curvatures)
    lr = 3 / steepest
    return Measured(
        {
            "the batches are mini-batches and zero_grad bears the lr": min(kept) > BOUND and max(cleared) < 1,
            "they are and the lr is too large for it": min(too_large) < BOUND,
            "the batches are full and 2/λ < lr < 4/λ (there zero_grad is what diverges)": called < BOUND,
        },
        {
            "mini-batches, lr 0.01: loss without it grows at least, times": min(kept),
            "mini-batches, lr 0.01: loss with it, times, at most": max(cleared),
            f"mini-batches, lr {TOO_LARGE:g}: loss with it grows at least, times": min(too_large),
            "λ of the full batch": steepest,
            "at lr 3/λ: highest loss without it, times the first": forgotten,
            "at lr 3/λ: highest loss with it, times the first": called,
            "at lr 4.5/λ: highest loss without it, times the first": _highest(modes.no_zero_grad(), 4.5),
        },
        {
            f"without zero_grad lr {TOO_LARGE:g} diverges too": min(neither) > BOUND,
            "without zero_grad the full batch stays bounded": forgotten < BOUND,
            "theory says the same": (theory.outcome(lr, steepest, 0.0), theory.outcome(lr, steepest, 1.0))
            == ("diverges", "oscillates for ever"),
        },
    )


CLAIMS = (
    Claim("backward-accumulates", "backward() adds to what .grad holds already.", HOLDS, _accumulates),
    Claim(
        "kept-gradient-points-elsewhere",
        "Without zero_grad() the optimizer steps along something else than the gradient.",
        HOLDS,
        _points_elsewhere,
    ),
    Claim(
        "loss-rises-without-zero-grad",
        "Without zero_grad() the loss rises.",
        "holds when the batches are mini-batches (sooner or later, at every lr tried); "
        "not when they are full (it oscillates for ever)",
        _loss_rises,
    ),
    Claim(
        "zero-grad-cures-divergence",
        "A loss that diverges is cured by calling zero_grad().",
        "holds when the batches are mini-batches and zero_grad bears the lr; "
        "not when they are and the lr is too large for it, "
        "or the batches are full and 2/λ < lr < 4/λ (there zero_grad is what diverges)",
        _cures,
    ),
)
