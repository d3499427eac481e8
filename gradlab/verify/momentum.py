"""What is kept in `.grad` is momentum: how far that goes, and whether it learns faster."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING, Any

from gradlab import curves, modes, theory
from gradlab.intervals import Difference, paired_difference
from gradlab.verify.claim import HOLDS, Claim, Figure, Measured
from gradlab.verify.trial import Trial, apart, built, in_double, same, trial

if TYPE_CHECKING:
    from gradlab.modes import Mode

SEEDS = range(12)


def _line(mode: Mode, *, double: bool = False, optimizer: str = "SGD", steps: int = 250, **options: Any) -> Trial:
    task = built("noisy_line", 0, inputs=4, batch_size=4)
    return trial(in_double(task) if double else task, mode, optimizer, steps=steps, lr=0.003, **options)


def _is_momentum(mode: Mode, momentum: float) -> Measured:
    """Compare keeping with torch's own momentum, in single and in double precision."""
    alike, figures = [], dict[str, Figure]()
    for double, name in ((False, "float32"), (True, "float64")):
        kept = _line(mode, double=double)
        torchs = _line(modes.zero_grad(), double=double, momentum=momentum)
        alike.append(same(kept, torchs))
        figures[f"{name}, 250 steps: weights differ by"] = apart(kept.weights, torchs.weights)
        figures[f"{name}: losses differ by"] = max(abs(a - b) for a, b in zip(kept.losses, torchs.losses, strict=True))
    return Measured({"": all(alike)}, figures)


def _always() -> Measured:
    half: dict[str, Any] = {"momentum": 0.5}
    plain = apart(_line(modes.halve_grad()).weights, _line(modes.zero_grad(), **half).weights)
    decay = apart(
        _line(modes.halve_grad(), weight_decay=0.1).weights,
        _line(modes.zero_grad(), weight_decay=0.1, **half).weights,
    )
    nesterov = apart(_line(modes.halve_grad()).weights, _line(modes.zero_grad(), nesterov=True, **half).weights)
    adam = apart(
        _line(modes.halve_grad(), optimizer="Adam", betas=(0.0, 0.999)).weights,
        _line(modes.zero_grad(), optimizer="Adam", betas=(0.5, 0.999)).weights,
    )
    return Measured(
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
        trial(built("noisy_line", seed, inputs=8, samples=64, batch_size=4), mode, steps=48, lr=lr) for seed in SEEDS
    )
    return [curves.epoch_means(run.rows)[-1] for run in runs]


def _faster() -> Measured:
    lr = 0.02
    cleared, halved = _last_losses(modes.zero_grad(), lr), _last_losses(modes.halve_grad(), lr)
    matched = _last_losses(modes.halve_grad(), lr / 2)
    at_same, at_matched = paired_difference(halved, cleared), paired_difference(matched, cleared)
    longer = theory.effective_lr(lr / 2, 0.5)
    if at_same is None or at_matched is None:
        return Measured({"": False}, {"losses that are finite": "not all"})
    return Measured(
        {
            "both have the same lr (its step is twice as long)": at_same.clear and at_same.mean < 0,
            "the effective lr is the same (less than a fifth of that is left)": at_matched.mean < at_same.mean / 5,
        },
        {
            "zero_grad: mean loss of epoch 3": fmean(cleared),
            "halved at the same lr: difference": _interval(at_same),
            "halved at half the lr: difference": _interval(at_matched),
            "pairs of seeds": len(SEEDS),
        },
        {"lr/2 halved is an effective lr": math.isclose(longer, lr)},
    )


def _interval(found: Difference) -> str:
    return f"{found.mean:+.2g} ± {found.half:.2g}"


def _adam_forgives() -> Measured:
    def level(mode: Mode) -> tuple[float, str]:
        run = trial(built("noisy_line", 0, inputs=8, batch_size=4), mode, "Adam", steps=800, lr=0.01)
        return fmean(run.losses[-200:]), curves.verdict(run.rows)

    (cleared, _), (halved, _), (kept, verdict) = map(
        level, (modes.zero_grad(), modes.halve_grad(), modes.no_zero_grad())
    )
    return Measured(
        {
            "half of it is left": halved < 1.05 * cleared,
            "all of it is left (the loss stays high)": kept < 1.05 * cleared,
        },
        {
            "loss of steps 600 to 800, cleared": cleared,
            "halved": halved,
            "never cleared": kept,
            "that curve": verdict,
        },
        {"no_zero_grad stays bounded": kept < 100 * cleared},
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
        _always,
    ),
    Claim(
        "halving-learns-faster",
        "Halving .grad makes it easier to go on: it learns faster than clearing.",
        "holds when both have the same lr (its step is twice as long); "
        "not when the effective lr is the same (less than a fifth of that is left)",
        _faster,
    ),
    Claim(
        "adam-forgives",
        "Adam forgives what is left in .grad, since it divides by its size.",
        "holds when half of it is left; not when all of it is left (the loss stays high)",
        _adam_forgives,
    ),
)
