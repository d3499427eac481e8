"""Gradients kept in `.grad` act as momentum: with which optimizers, and whether training gets faster."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import modes
from gradlab.analysis import curves, theory
from gradlab.analysis.intervals import Difference, paired_difference
from gradlab.verify.claim import HOLDS, Claim, FigureValue, Measurement
from gradlab.verify.training import (
    TrainedModel,
    build_task,
    small_noisy_line,
    train,
    trained_alike,
)

if TYPE_CHECKING:
    from gradlab.modes import Mode

SEEDS = range(12)
HALVING_LRS = (0.005, 0.01, 0.02)
NEGLIGIBLE = 0.1  # share of the gain at the same lr; less than this at the same effective lr is no gain


def _train_line(
    mode: Mode, *, double: bool = False, optimizer: str = "SGD", steps: int = 250, **options: Any
) -> TrainedModel:
    return train(small_noisy_line(double=double), mode, optimizer, steps=steps, lr=0.003, **options)


def _is_momentum(mode: Mode, momentum: float) -> Measurement:
    """Compare keeping with torch's own momentum in float32 and float64."""
    alike, figures = [], dict[str, FigureValue]()
    for double, name in ((False, "float32"), (True, "float64")):
        kept = _train_line(mode, double=double)
        torchs = _train_line(modes.zero_grad(), double=double, momentum=momentum)
        alike.append(trained_alike(kept, torchs))
        figures[f"{name}, 250 steps: weight difference"] = kept.distance(torchs)
        figures[f"{name}, 250 steps: loss difference"] = max(
            abs(a - b) for a, b in zip(kept.losses, torchs.losses, strict=True)
        )
    return Measurement({"": all(alike)}, figures)


def _keep_is_momentum() -> Measurement:
    half: dict[str, Any] = {"momentum": 0.5}
    plain = _train_line(modes.halve_grad()).distance(_train_line(modes.zero_grad(), **half))
    decayed = _train_line(modes.zero_grad(), weight_decay=0.1, **half)
    decay = _train_line(modes.halve_grad(), weight_decay=0.1).distance(decayed)
    nesterov = _train_line(modes.halve_grad()).distance(_train_line(modes.zero_grad(), nesterov=True, **half))
    adam_with_momentum = _train_line(modes.zero_grad(), optimizer="Adam", betas=(0.5, 0.999))
    adam = _train_line(modes.halve_grad(), optimizer="Adam", betas=(0.0, 0.999)).distance(adam_with_momentum)
    return Measurement(
        {
            "the optimizer is plain SGD": plain == 0,
            "it is SGD with weight decay": decay == 0,
            "it is SGD with Nesterov momentum": nesterov == 0,
            "it is Adam, with beta1 as momentum": adam == 0,
        },
        {
            "plain SGD: weight difference": plain,
            "weight decay 0.1: weight difference": decay,
            "Nesterov: weight difference": nesterov,
            "Adam, beta1 0.5: weight difference": adam,
        },
    )


def _last_losses(mode: Mode, lr: float) -> list[float]:
    """Return the mean loss of the third epoch for each seed."""
    runs = (
        train(build_task("noisy_line", seed, inputs=8, samples=64, batch_size=4), mode, steps=48, lr=lr)
        for seed in SEEDS
    )
    return [curves.epoch_means(run.rows)[-1] for run in runs]


class HalvingGain(NamedTuple):
    """Last losses of halving minus those of clearing at one lr: negative if halving is better."""

    same_lr: Difference
    matched_lr: Difference  # halving at half the lr: the same effective lr
    remaining: Difference | None  # share of the gain that remains at the same effective lr; None without a gain

    @property
    def gains(self) -> bool:
        """Whether halving is significantly better at the same lr."""
        return self.same_lr.significant and self.same_lr.mean < 0


def _halving_gain(lr: float) -> HalvingGain:
    cleared, halved, matched = (
        _last_losses(mode, at)
        for mode, at in ((modes.zero_grad(), lr), (modes.halve_grad(), lr), (modes.halve_grad(), lr / 2))
    )
    at_same, at_matched = paired_difference(halved, cleared), paired_difference(matched, cleared)
    if at_same is None or at_matched is None:
        raise ArithmeticError(f"at lr {lr:g} not all losses are finite")
    return HalvingGain(
        at_same,
        at_matched,
        _ratio(
            [m - c for m, c in zip(matched, cleared, strict=True)],
            [h - c for h, c in zip(halved, cleared, strict=True)],
        ),
    )


def _ratio(part: list[float], whole: list[float]) -> Difference | None:
    """Return mean(part) / mean(whole) with its 95 % interval over pairs; None if the whole is not significant.

    The interval is that of the mean of part − share·whole, a first-order ratio (Cochran, "Sampling Techniques").
    """
    base = paired_difference(whole, [0.0] * len(whole))
    if base is None or not base.significant:
        return None
    share = fmean(part) / base.mean
    off = paired_difference(part, [share * each for each in whole])
    return off and Difference(share, off.half_width / abs(base.mean))


def _halving_learns_faster() -> Measurement:
    found = {lr: _halving_gain(lr) for lr in HALVING_LRS}
    shares = [each.remaining for each in found.values() if each.remaining]
    figures = dict[str, FigureValue]()
    for lr, each in found.items():
        figures[f"loss of epoch 3, lr {lr:g} halved − lr {lr:g} cleared"] = _interval(each.same_lr)
        figures[f"loss of epoch 3, lr {lr / 2:g} halved − lr {lr:g} cleared"] = _interval(each.matched_lr)
        figures[f"lr {lr:g}: share of the gain that remains"] = (
            _interval(each.remaining) if each.remaining else "no gain"
        )
    figures["pairs of runs per difference"] = len(SEEDS)
    return Measurement(
        {
            "both have the same lr (halving takes steps twice as long)": all(each.gains for each in found.values()),
            "both have the same effective lr (at most a tenth of the gain remains or is lost)": any(
                share.mean + share.half_width >= NEGLIGIBLE for share in shares
            ),
        },
        figures,
        {
            "at most a tenth of the gain is lost": all(
                share.mean - share.half_width > -NEGLIGIBLE for share in shares
            ),
            "halving at lr/2 has the effective lr of clearing at lr": all(
                math.isclose(theory.effective_lr(lr / 2, 0.5), lr) for lr in found
            ),
        },
    )


def _interval(found: Difference) -> str:
    return " ± ".join(found.rounded())


def _adam_forgives() -> Measurement:
    """Train with Adam on noisy mini-batches and compare the last quarter of the losses, seed by seed."""

    def levels(mode: Mode) -> list[tuple[float, float]]:
        """Return the mean loss of the first ten steps and of the last 200 for each seed."""
        runs = (
            train(build_task("noisy_line", seed, inputs=8, batch_size=4), mode, "Adam", steps=800, lr=0.01).losses
            for seed in SEEDS[:3]
        )
        return [(fmean(losses[:10]), fmean(losses[-200:])) for losses in runs]

    cleared, halved, kept = map(levels, (modes.zero_grad(), modes.halve_grad(), modes.no_zero_grad()))
    half = [late / level for (_, late), (_, level) in zip(halved, cleared, strict=True)]
    whole = [late / level for (_, late), (_, level) in zip(kept, cleared, strict=True)]
    rise = max(late / early for early, late in kept)
    return Measurement(
        {
            "gradients are halved (the loss is within 5 % of clearing on noisy mini-batches)": max(half) < 1.05,
            "gradients are never cleared (the loss does not run away but stays above twice that of clearing)": min(
                whole
            )
            <= 2,
        },
        {
            "loss of steps 600 to 800, halved / cleared, largest of all seeds": max(half),
            "loss of steps 600 to 800, never cleared / cleared, smallest of all seeds": min(whole),
            "never cleared: loss of steps 600 to 800 / first ten steps, largest of all seeds": rise,
            "number of seeds": len(cleared),
        },
        {"without zero_grad, the loss does not run away": rise < 10},
    )


CLAIMS = (
    Claim(
        "halving-is-momentum-one-half",
        "Halving .grad after each step equals SGD with momentum 0.5, bit for bit.",
        HOLDS,
        lambda: _is_momentum(modes.halve_grad(), 0.5),
    ),
    Claim(
        "forgetting-is-momentum-one",
        "Never clearing .grad equals SGD with momentum 1, bit for bit.",
        HOLDS,
        lambda: _is_momentum(modes.no_zero_grad(), 1.0),
    ),
    Claim(
        "keep-is-momentum-always",
        "Gradients kept in .grad act as the optimizer's momentum.",
        "holds when the optimizer is plain SGD; not when it is SGD with weight decay, "
        "or it is SGD with Nesterov momentum, or it is Adam, with beta1 as momentum",
        _keep_is_momentum,
    ),
    Claim(
        "halving-learns-faster",
        "Halving .grad learns faster than clearing it.",
        "holds when both have the same lr (halving takes steps twice as long); "
        "not when both have the same effective lr (at most a tenth of the gain remains or is lost)",
        _halving_learns_faster,
    ),
    Claim(
        "adam-forgives",
        "Adam tolerates old gradients in .grad, because it divides by their size.",
        "holds when gradients are halved (the loss is within 5 % of clearing on noisy mini-batches); "
        "not when gradients are never cleared (the loss does not run away but stays above twice that of clearing)",
        _adam_forgives,
    ),
)
