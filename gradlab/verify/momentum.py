"""What is kept in `.grad` is momentum: how far that goes, and whether it learns faster."""

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
NEGLIGIBLE = 0.1  # of what halving gains at the same lr: if more were left at the same effective lr, that were a gain


def _train_line(
    mode: Mode, *, double: bool = False, optimizer: str = "SGD", steps: int = 250, **options: Any
) -> TrainedModel:
    return train(small_noisy_line(double=double), mode, optimizer, steps=steps, lr=0.003, **options)


def _is_momentum(mode: Mode, momentum: float) -> Measurement:
    """Compare keeping with torch's own momentum, in single and in double precision."""
    alike, figures = [], dict[str, FigureValue]()
    for double, name in ((False, "float32"), (True, "float64")):
        kept = _train_line(mode, double=double)
        torchs = _train_line(modes.zero_grad(), double=double, momentum=momentum)
        alike.append(trained_alike(kept, torchs))
        figures[f"{name}, 250 steps: weights differ by"] = kept.distance(torchs)
        figures[f"{name}: losses differ by"] = max(abs(a - b) for a, b in zip(kept.losses, torchs.losses, strict=True))
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
            "it is plain SGD": plain == 0,
            "there is weight decay": decay == 0,
            "it is Nesterov's": nesterov == 0,
            "the optimizer is Adam, with beta1 for momentum": adam == 0,
        },
        {
            "plain SGD: weights differ by": plain,
            "weight decay 0.1: weights differ by": decay,
            "Nesterov: weights differ by": nesterov,
            "Adam, beta1 0.5: weights differ by": adam,
        },
    )


def _last_losses(mode: Mode, lr: float) -> list[float]:
    """Return the mean loss of the third epoch, for each seed."""
    runs = (
        train(build_task("noisy_line", seed, inputs=8, samples=64, batch_size=4), mode, steps=48, lr=lr)
        for seed in SEEDS
    )
    return [curves.epoch_means(run.rows)[-1] for run in runs]


class HalvingGain(NamedTuple):
    """Last losses of halving less those of clearing at one lr: below 0 where halving is ahead."""

    same_lr: Difference
    matched_lr: Difference  # halved at half the lr, which is the same effective lr
    remaining: Difference | None  # share of the gain at the same lr that remains at the matched one; None: no gain

    @property
    def gains(self) -> bool:
        """Whether halving is clearly ahead at the same lr."""
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
    """Return the mean of `part` over that of `whole` with its 95 % interval, over pairs; None for a whole near 0.

    The interval is that of the mean of part − share·whole: a ratio to first order (Cochran, "Sampling Techniques").
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
        figures[f"lr {lr:g}: loss of epoch 3, halved less cleared"] = _interval(each.same_lr)
        figures[f"lr {lr / 2:g} halved less lr {lr:g} cleared"] = _interval(each.matched_lr)
        figures[f"share of the gain at lr {lr:g} that is left"] = (
            _interval(each.remaining) if each.remaining else "no gain"
        )
    figures["pairs of seeds, each"] = len(SEEDS)
    return Measurement(
        {
            "both have the same lr (its step is twice as long)": all(each.gains for each in found.values()),
            "the effective lr is the same (a tenth of the gain at most is left, or lost)": any(
                share.mean + share.half_width >= NEGLIGIBLE for share in shares
            ),
        },
        figures,
        {
            "a tenth of the gain at most is lost": all(
                share.mean - share.half_width > -NEGLIGIBLE for share in shares
            ),
            "lr/2 halved is an effective lr": all(math.isclose(theory.effective_lr(lr / 2, 0.5), lr) for lr in found),
        },
    )


def _interval(found: Difference) -> str:
    return " ± ".join(found.rounded())


def _adam_forgives() -> Measurement:
    """Train noisy mini-batches by Adam, and compare the last quarter of the losses of each mode, seed by seed."""

    def levels(mode: Mode) -> list[tuple[float, float]]:
        """Return the mean loss of the first ten steps and of the last 200, for each seed."""
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
            "half of it is left (on noisy mini-batches within a twentieth of clearing)": max(half) < 1.05,
            "all of it is left (the loss neither runs away nor comes down to twice that of clearing)": min(whole) <= 2,
        },
        {
            "halved: loss of steps 600 to 800, times cleared, at most": max(half),
            "never cleared: the same, at least": min(whole),
            "never cleared: the same over that of the first ten steps, at most": rise,
            "seeds": len(cleared),
        },
        {"without zero_grad the loss does not run away": rise < 10},
    )


CLAIMS = (
    Claim(
        "halving-is-momentum-one-half",
        "Halving .grad after each step is SGD with momentum ½, bit for bit.",
        HOLDS,
        lambda: _is_momentum(modes.halve_grad(), 0.5),
    ),
    Claim(
        "forgetting-is-momentum-one",
        "Never clearing .grad is SGD with momentum 1, bit for bit.",
        HOLDS,
        lambda: _is_momentum(modes.no_zero_grad(), 1.0),
    ),
    Claim(
        "keep-is-momentum-always",
        "What is kept in .grad acts as the optimizer's momentum.",
        "holds when it is plain SGD; not when there is weight decay, or it is Nesterov's, or the optimizer is Adam, "
        "with beta1 for momentum",
        _keep_is_momentum,
    ),
    Claim(
        "halving-learns-faster",
        "Halving .grad makes it easier to go on: it learns faster than clearing.",
        "holds when both have the same lr (its step is twice as long); "
        "not when the effective lr is the same (a tenth of the gain at most is left, or lost)",
        _halving_learns_faster,
    ),
    Claim(
        "adam-forgives",
        "Adam forgives what is left in .grad, since it divides by its size.",
        "holds when half of it is left (on noisy mini-batches within a twentieth of clearing); not when all of it is "
        "left (the loss neither runs away nor comes down to twice that of clearing)",
        _adam_forgives,
    ),
)
