"""Theory: closed forms for training on a quadratic loss.

The loss is ½λw² for each curvature λ. The error w is the distance from the minimum. Training uses plain SGD at a
constant lr on full batches, with an optimizer step after every backward pass. Step t is

    G_t = keep·G_{t−1} + λ·w_t          `.grad` at the update; G is 0 before the first step
    w_{t+1} = w_t − lr·G_t

This is the heavy ball (Polyak 1964) with momentum keep. All results follow from the roots p, q of its characteristic
polynomial, where a = lr·λ (Goh, "Why Momentum Really Works", Distill 2017):

    z² − (1 + keep − a)·z + keep = 0

This module trains and iterates nothing and imports nothing from gradlab, so it can check the training loop. All
functions raise ValueError unless lr, curvature and keep are finite and lr and curvature positive. Overflow returns
±inf, because divergence is a result too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Outcome = Literal["converges", "oscillates for ever", "diverges"]


# Without noise


def roots(lr: float, curvature: float, keep: float) -> tuple[complex, complex]:
    """Return the two roots p, q of z² − (1 + keep − lr·λ)·z + keep, the larger in modulus first.

    In a conjugate pair, the root above the real axis comes first. The product of the roots is keep. Over t updates,
    the error shrinks or grows like |p|ᵗ.
    """
    found = _roots(lr, curvature, keep)
    if found.angle:
        above = complex(abs(found.first) * math.cos(found.angle), abs(found.first) * math.sin(found.angle))
        above = above if found.first > 0 else -above.conjugate()
        return above, above.conjugate()
    return complex(found.first), complex(found.second)


def trajectory(lr: float, curvature: float, keep: float, steps: int, start: float = 1.0) -> list[float]:
    """Return the errors w_t for t = 0, …, `steps`: before the first update, and after each update.

    `.grad` is empty at the start. With S_n = (pⁿ − qⁿ)/(p − q), or n·pⁿ⁻¹ for a double root,

        w_t = start · (S_{t+1} − keep·S_t)

    Returns:
        `steps` + 1 numbers, in the unit of `start`.

    Raises:
        ValueError: `steps` is below 0.
    """
    found = _roots(lr, curvature, keep)
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    return [start * _error_over_power(found, t) * _power(found.first, t) for t in range(steps + 1)]


def loss_trajectory(
    lr: float,
    curvatures: Sequence[float],
    keep: float,
    steps: int,
    amplitudes: Sequence[float] | None = None,
    floor: float = 0.0,
) -> list[float]:
    """Return the losses floor + Σ ½·λ·w_t² for t = 0, …, `steps`; row t of a training logs loss t.

    Args:
        lr: learning rate, the same in all directions.
        curvatures: shape (n,); the eigenvalues of the Hessian.
        keep: factor on `.grad` after each update.
        steps: updates after the first loss.
        amplitudes: shape (n,); the errors at the start along the eigenvectors. Default: 1 each.
        floor: the loss at the minimum.

    Returns:
        `steps` + 1 losses.

    Raises:
        ValueError: `steps` is negative, or the numbers of amplitudes and curvatures differ.
    """
    starts = _amplitudes(curvatures, amplitudes)
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    losses = [floor] * (steps + 1)
    for curvature, start in zip(curvatures, starts, strict=True):
        errors = trajectory(lr, curvature, keep, steps, start)
        losses = [loss + 0.5 * curvature * w * w for loss, w in zip(losses, errors, strict=True)]
    return losses


class PredictedGeometry(NamedTuple):
    """The gradients of update t in closed form, and the change of the weights."""

    fresh_norm: float  # of the gradient at w_t
    gradient_norm: float  # of G_t
    cosine: float  # between both; NaN if one of them is 0
    update_norm: float  # of w_{t+1} − w_t


def geometry_trajectory(
    lr: float, curvatures: Sequence[float], keep: float, updates: int, amplitudes: Sequence[float] | None = None
) -> list[PredictedGeometry]:
    """Return the geometry of the updates t = 0, …, `updates` − 1.

    Along an eigenvector of curvature λ, the gradient is λ·w_t and `.grad` holds

        G_t = start · λ · S_{t+1}

    with S as in `trajectory`.

    Args:
        lr: learning rate, the same in all directions.
        curvatures: shape (n,); the eigenvalues of the Hessian.
        keep: factor on `.grad` after each update.
        updates: number of updates.
        amplitudes: shape (n,); the errors at the start along the eigenvectors. Default: 1 each.

    Returns:
        `updates` entries.

    Raises:
        ValueError: `updates` is negative, or the numbers of amplitudes and curvatures differ.
    """
    starts = _amplitudes(curvatures, amplitudes)
    if updates < 0:
        raise ValueError(f"updates must be at least 0, got {updates}")
    fresh: list[list[float]] = [[] for _ in range(updates)]
    grads: list[list[float]] = [[] for _ in range(updates)]
    for curvature, start in zip(curvatures, starts, strict=True):
        found = _roots(lr, curvature, keep)
        for t, error in enumerate(trajectory(lr, curvature, keep, updates - 1, start) if updates else ()):
            fresh[t].append(curvature * error)
            grads[t].append(curvature * start * _sum_over_power(found, t + 1) * _power(found.first, t))
    return [_geometry(lr, *vectors) for vectors in zip(fresh, grads, strict=True)]


def _geometry(lr: float, fresh: Sequence[float], grad: Sequence[float]) -> PredictedGeometry:
    fresh_norm, grad_norm = math.hypot(*fresh), math.hypot(*grad)
    cosine = math.nan
    if 0 < fresh_norm < math.inf and 0 < grad_norm < math.inf:
        cosine = math.fsum(one / fresh_norm * (other / grad_norm) for one, other in zip(fresh, grad, strict=True))
        cosine = max(-1.0, min(cosine, 1.0))
    return PredictedGeometry(fresh_norm, grad_norm, cosine, lr * grad_norm)


def decay_rate(lr: float, curvature: float, keep: float) -> float:
    """Return max(|p|, |q|): the long-run factor on the error per update. It is below 1 if training converges.

    The factor on the loss is its square. If the roots are complex, it is √keep at every lr (Goh 2017).
    """
    return abs(_roots(lr, curvature, keep).first)


def period(lr: float, curvature: float, keep: float) -> float | None:
    """Return the period of the error's oscillation in updates, or None if it does not oscillate.

    It is 2π divided by the angle of the root that is larger in modulus. If that root is negative, every update
    overshoots and the period is 2. If it is positive or 0, the result is None. The loss has half the period.
    """
    found = _roots(lr, curvature, keep)
    if found.angle:
        return 2 * math.pi / (found.angle if found.first > 0 else math.pi - found.angle)
    return 2.0 if found.first < 0 else None


def largest_stable_lr(curvature: float, keep: float, momentum: float = 0.0) -> float:
    """Return the edge of stability, 2·(1 + keep)/λ. Training diverges above this lr and not below it.

    This holds for −1 < keep ≤ 1 (Polyak 1964; Goh 2017). For other values the edge is 0: the product of the roots is
    keep, so one root is too large at every lr. With plain SGD, `momentum` acts like keep.

    With both, the roots are those of

        (z − 1)·(z − keep)·(z − momentum) + lr·λ·z²

    They lie inside the unit circle (Jury 1964) if lr is below two limits:

        2·(1 + keep)·(1 + momentum)/λ                                          where a root reaches −1
        (1 − keep)·(1 − momentum)·(1 − keep·momentum)/(keep·momentum·λ)        where a complex pair leaves the circle

    The second limit exists only for keep·momentum > 0. It is small if both are near 1.
    """
    _check(1.0, curvature, keep)
    _check(1.0, curvature, momentum)
    if not (-1 < keep <= 1 and -1 < momentum <= 1):
        return 0.0
    flips, both = 2 * (1 + keep) * (1 + momentum), keep * momentum
    return (min(flips, (1 - keep) * (1 - momentum) * (1 - both) / both) if both > 0 else flips) / curvature


def outcome(lr: float, curvature: float, keep: float) -> Outcome:
    """Return the long-run behaviour of the error.

    Below `largest_stable_lr` it converges if keep < 1. At keep = 1, both roots lie on the unit circle, and it
    oscillates for ever. Exactly at `largest_stable_lr`, a root is −1. For keep < 1, the error then changes sign for
    ever. At keep = 1, the root is double, the error is (−1)ᵗ·(2t + 1) times the start, and it diverges.
    """
    _check(lr, curvature, keep)
    edge = largest_stable_lr(curvature, keep)
    if lr < edge:
        return "converges" if keep < 1 else "oscillates for ever"
    return "oscillates for ever" if lr == edge and keep < 1 else "diverges"


def conserved_quantity(lr: float, curvature: float, error: float, grad: float) -> float:
    """Return λw² + lr·G² + lr·λ·w·G, which is constant during training at keep = 1, for every lr.

    Read both values between an update and the next backward pass: `error` is w after the update, `grad` is the
    content of `.grad` without the next gradient (0 before the first step). Between the backward pass and the update,
    `.grad` also holds the new gradient λw. There, the same quantity is λw² + lr·G² − lr·λ·w·G.

    For lr·λ < 4 it is positive unless w and G are both 0, so the orbit is an ellipse: w and G stay bounded and never
    both vanish. For lr·λ ≥ 4 its level lines are open, and the error grows along them.
    """
    _check(lr, curvature, 1.0)
    return curvature * error * error + lr * grad * grad + lr * curvature * error * grad


def effective_lr(lr: float, keep: float) -> float:
    """Return lr/(1 − keep): the total step along one gradient over all updates, lr·(1 + keep + keep² + …).

    At keep = 1 it is inf.

    Raises:
        ValueError: keep is not in (−1, 1], so the sum has no value.
    """
    _check(lr, 1.0, keep)
    if not -1 < keep <= 1:
        raise ValueError(f"keep must lie in (−1, 1] for an effective lr, got {keep}")
    return lr / (1 - keep) if keep < 1 else math.inf


# With noise


def stationary_variance(lr: float, curvature: float, keep: float, noise_variance: float) -> float:
    """Return the long-run variance of the error if each gradient is λw plus independent noise of mean 0.

    With a = lr·λ and s² = `noise_variance`, in units of the gradient squared, it is

        lr²·s²·(1 + keep) / ((1 − keep)·a·(2 + 2·keep − a))

    The error is an autoregressive process of order 2, with coefficients 1 + keep − a and −keep and innovations
    −lr·noise (Box & Jenkins, "Time Series Analysis", on AR(2)). The mean loss is ½λ times this above its minimum. If
    training does not converge without noise, the variance is inf.

    Raises:
        ValueError: `noise_variance` is negative or not finite.
    """
    _check_variance("noise_variance", noise_variance)
    if outcome(lr, curvature, keep) != "converges":
        return math.inf
    a = lr * curvature
    return lr * lr * noise_variance * (1 + keep) / ((1 - keep) * a * (2 + 2 * keep - a))


def small_lr_variance(lr: float, curvature: float, keep: float, noise_variance: float) -> float:
    """Return the limit of `stationary_variance` as lr·λ goes to 0: lr·s²/(2·λ·(1 − keep)).

    This is 1/(1 − keep) times the variance of plain SGD at the same lr. It equals that of plain SGD at `effective_lr`:
    like a larger lr, keep trades noise for speed.

    Raises:
        ValueError: keep is not in (−1, 1), or `noise_variance` is negative or not finite.
    """
    _check(lr, curvature, keep)
    _check_variance("noise_variance", noise_variance)
    if not -1 < keep < 1:
        raise ValueError(f"keep must lie in (−1, 1) for a stationary variance, got {keep}")
    return lr * noise_variance / (2 * curvature * (1 - keep))


def mean_square_growth(lr: float, curvature: float, curvature_variance: float, keep: float) -> float:
    """Return the long-run factor on the mean of w² per update if each batch has its own curvature.

    In a linear regression with weight w on mini-batches, the gradient is h·w, where h is the batch's mean squared
    input. h is independent between steps, with mean λ and variance v = `curvature_variance`. Then the moments E[w²],
    E[w·G], E[G²] of one step are linear in those of the last. With u = lr·G, a = lr·λ, c = lr²·v, k = keep:

        ⎡ (1 − a)² + c     −2k(1 − a)    k² ⎤
        ⎢ a − a² − c        k(1 − 2a)   −k² ⎥     on  (E[w²], E[w·u], E[u²])
        ⎣ a² + c            2ka          k² ⎦

    This matrix has the characteristic polynomial

        (z − k)·(z − p²)·(z − q²) − c·z·(z + k)

    The result is its largest real root. It is the spectral radius because the matrix maps a cone, that of moments,
    into itself (Krein & Rutman 1948). At keep = 1, the polynomial is −2c at z = 1, so it has a root above 1 at every
    lr: without `zero_grad`, the loss always grows. For keep < 1, the mean square falls if and only if
    v·stationary_variance(lr, λ, keep, 1) < 1.

    Label noise raises the loss, but does not change this factor.

    Raises:
        ValueError: `curvature_variance` is negative or not finite.
    """
    _check_variance("curvature_variance", curvature_variance)
    rate = decay_rate(lr, curvature, keep)
    if curvature_variance == 0:
        return rate * rate
    # The polynomial in d = z − max(|p|, |q|)² is accurate even for a growth of 1 + 1e-12. Noise only adds, so d > 0.
    found, noise = _roots(lr, curvature, keep), lr * lr * curvature_variance
    free = rate * rate
    if found.angle:
        square = (2 * rate * math.sin(found.angle)) ** 2
        linear = keep * square
    else:
        square = free * found.ratio_gap * (3 - found.ratio_gap)
        linear = free * free * found.ratio_gap**2 * (2 - found.ratio_gap)
    return free + _largest_root(square - noise, linear - noise * (2 * free + keep), -noise * free * (free + keep))


# The roots, in a form without overflow or cancellation


class _Roots(NamedTuple):
    """The roots: two real roots, the larger in modulus first; or the pair first·exp(±i·angle)."""

    first: float  # real roots: p; pair: ±√keep, with the sign of its real part
    second: float  # real roots: q; pair: the same as first
    angle: float  # real roots: 0; pair: from the nearer half of the real axis, in (0, π/2]
    ratio_gap: float  # real roots: 1 − q/p, in [0, 2]; pair: 0
    weight: float  # real roots: 1 − q; pair: (1 − a − keep)/(2·first), the same for a double root


def _roots(lr: float, curvature: float, keep: float) -> _Roots:
    _check(lr, curvature, keep)
    a = lr * curvature
    total = (1 - a) + keep
    if keep >= 0:
        # total² − 4·keep = (total − 2√keep)·(total + 2√keep); each factor is accurate near 0
        root = math.sqrt(keep)
        low = (1 - root) ** 2 - a if root > 0.5 else total - 2 * root
        high = total + 2 * root
        gap = math.sqrt(abs(low)) * math.sqrt(abs(high))
        if low < 0 < high:
            signed = math.copysign(root, total)
            return _Roots(signed, signed, math.atan2(gap, abs(total)), 0.0, (1 - keep - a) / (2 * signed))
    else:
        gap = math.hypot(total, 2 * math.sqrt(-keep))
    first = total / 2 + (gap / 2 if total > 0 else -gap / 2)
    second = keep / first if first else 0.0
    # 1 − q equals a/(1 − p), since (1 − p)(1 − q) = a; choose the form without cancellation
    weight = a / (1 - first) if abs(1 - first) > abs(1 - second) else 1 - second
    return _Roots(first, second, 0.0, gap / abs(first) if first else 0.0, weight)


def _error_over_power(found: _Roots, t: int) -> float:
    """Return (S_{t+1} − keep·S_t)/firstᵗ, from the sum qᵗ + (1 − q)·p·S_t in a form without cancellation."""
    left = math.cos(t * found.angle) if found.angle else (1 - found.ratio_gap) ** t  # (q/p)ᵗ
    return left + found.weight * _sum_over_power(found, t)


def _sum_over_power(found: _Roots, n: int) -> float:
    """Return S_n/firstⁿ⁻¹, where S_n = (pⁿ − qⁿ)/(p − q) is the sum of all pⁱ·qʲ with i + j = n − 1."""
    if found.angle:
        return math.sin(n * found.angle) / math.sin(found.angle)
    if found.ratio_gap == 0:  # S_n = n·pⁿ⁻¹
        return float(n)
    small = found.ratio_gap < 0.5
    done = -math.expm1(n * math.log1p(-found.ratio_gap)) if small else 1 - (1 - found.ratio_gap) ** n
    return done / found.ratio_gap


def _power(base: float, exponent: int) -> float:
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf if base > 0 or exponent % 2 == 0 else -math.inf


def _largest_root(square: float, linear: float, constant: float) -> float:
    """Return the largest real root of d³ + square·d² + linear·d + constant; no root may have a larger real part.

    To its right, the cubic and its derivatives are positive (Gauss–Lucas). Newton's iteration starts to the right of
    all roots (Cauchy's bound), so it decreases to this root and passes it only by rounding.
    """
    d = 1 + max(abs(square), abs(linear), abs(constant))
    while True:
        lower = d - (((d + square) * d + linear) * d + constant) / ((3 * d + 2 * square) * d + linear)
        if not lower < d:
            return d
        d = lower


def _amplitudes(curvatures: Sequence[float], amplitudes: Sequence[float] | None) -> Sequence[float]:
    """Return the errors at the start, by default 1 along each eigenvector."""
    starts = [1.0] * len(curvatures) if amplitudes is None else amplitudes
    if len(starts) != len(curvatures):
        raise ValueError(f"{len(starts)} amplitudes for {len(curvatures)} curvatures; give one per curvature")
    return starts


def _check(lr: float, curvature: float, keep: float) -> None:
    for name, value in (("lr", lr), ("curvature", curvature)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a finite number greater than 0, got {value}")
    if not math.isfinite(keep):
        raise ValueError(f"keep must be a finite number, got {keep}")


def _check_variance(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
