"""Theory: what training on a quadratic does, in closed forms and from numbers alone.

The loss is ½λw² for each curvature λ, w being the error: the distance from the minimum. With plain SGD at a constant
lr, full batches and a mode that takes an optimizer step after every backward pass, step t is

    G_t = keep·G_{t−1} + λ·w_t          what the update sees in `.grad`; before the first step G is 0
    w_{t+1} = w_t − lr·G_t

which is the heavy ball (Polyak 1964) with momentum keep. All follows from the roots p, q of its characteristic
polynomial, in which a = lr·λ is all that counts of lr and λ (Goh, "Why Momentum Really Works", Distill 2017):

    z² − (1 + keep − a)·z + keep = 0

Nothing here is trained or iterated, and nothing of gradlab is imported: the training loop is compared with these
independent results. In all functions lr, curvature and keep are finite numbers and lr and curvature greater than 0;
else they raise ValueError. A number too large for a float is ±inf, since divergence is a result too.
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

    Of a conjugate pair the one above the real axis comes first. Their product is keep, and the error shrinks or grows
    as |p|ᵗ in t updates.
    """
    found = _roots(lr, curvature, keep)
    if found.angle:
        above = complex(abs(found.first) * math.cos(found.angle), abs(found.first) * math.sin(found.angle))
        above = above if found.first > 0 else -above.conjugate()
        return above, above.conjugate()
    return complex(found.first), complex(found.second)


def trajectory(lr: float, curvature: float, keep: float, steps: int, start: float = 1.0) -> list[float]:
    """Return the errors w_t for t = 0, …, `steps`: before the first update, and after each of `steps` updates.

    With `.grad` empty at the start, and S_n = (pⁿ − qⁿ)/(p − q), or n·pⁿ⁻¹ for a double root,

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
    """Return the losses floor + Σ ½·λ·w_t² for t = 0, …, `steps`; row t of a training logs the one at t.

    Args:
        lr: shared by all directions.
        curvatures: shape (n,); the eigenvalues of the Hessian.
        keep: shared by all directions.
        steps: updates after the first loss.
        amplitudes: shape (n,); the errors at the start along the eigenvectors, 1 by default.
        floor: the loss at the minimum.

    Returns:
        `steps` + 1 losses.

    Raises:
        ValueError: `steps` is below 0, or the numbers of amplitudes and curvatures differ.
    """
    starts = [1.0] * len(curvatures) if amplitudes is None else amplitudes
    if len(starts) != len(curvatures):
        raise ValueError(f"{len(starts)} amplitudes for {len(curvatures)} curvatures; give one for each")
    if steps < 0:
        raise ValueError(f"steps must be at least 0, got {steps}")
    losses = [floor] * (steps + 1)
    for curvature, start in zip(curvatures, starts, strict=True):
        errors = trajectory(lr, curvature, keep, steps, start)
        losses = [loss + 0.5 * curvature * w * w for loss, w in zip(losses, errors, strict=True)]
    return losses


def decay_rate(lr: float, curvature: float, keep: float) -> float:
    """Return max(|p|, |q|): the factor on the error per update in the long run, below 1 where it converges.

    The loss goes by its square. While the roots are complex it is √keep, whatever the lr (Goh 2017).
    """
    return abs(_roots(lr, curvature, keep).first)


def period(lr: float, curvature: float, keep: float) -> float | None:
    """Return the period of the error's oscillation in updates, or None where it does not oscillate.

    It is 2π over the angle of the root that dominates in the long run, the larger in modulus: 2 where it is negative,
    so that each update overshoots; None where it is positive or 0. The loss, a square, has half of it.
    """
    found = _roots(lr, curvature, keep)
    if found.angle:
        return 2 * math.pi / (found.angle if found.first > 0 else math.pi - found.angle)
    return 2.0 if found.first < 0 else None


def largest_stable_lr(curvature: float, keep: float, momentum: float = 0.0) -> float:
    """Return the edge of stability, 2·(1 + keep)/λ: below this lr training does not diverge, above it it does.

    Holds for −1 < keep ≤ 1 (Polyak 1964; Goh 2017); beyond, it is 0: the roots' product is keep, so that one of them
    is too large at every lr. `momentum` in place of keep is the same with plain SGD.

    With both, the optimizer sums sums, and the roots are those of

        (z − 1)·(z − keep)·(z − momentum) + lr·λ·z²

    They lie within the unit circle (Jury 1964) below 2·(1 + keep)·(1 + momentum)/λ, where a root is −1, and for
    keep·momentum > 0 also below (1 − keep)·(1 − momentum)·(1 − keep·momentum)/(keep·momentum·λ), where a pair of them
    leaves it. That is small where both are near 1.
    """
    _check(1.0, curvature, keep)
    _check(1.0, curvature, momentum)
    if not (-1 < keep <= 1 and -1 < momentum <= 1):
        return 0.0
    flips, both = 2 * (1 + keep) * (1 + momentum), keep * momentum
    return (min(flips, (1 - keep) * (1 - momentum) * (1 - both) / both) if both > 0 else flips) / curvature


def outcome(lr: float, curvature: float, keep: float) -> Outcome:
    """Return the behaviour of the error in the long run.

    Below `largest_stable_lr` it converges, except at keep = 1: both roots lie on the unit circle, it oscillates for
    ever. At that very lr a root is −1: for keep < 1 the error flips its sign for ever, at keep = 1 the root is double
    and the error grows by the same amount at each update, (−1)ᵗ·(2t + 1) times the start: it diverges.
    """
    _check(lr, curvature, keep)
    edge = largest_stable_lr(curvature, keep)
    if lr < edge:
        return "converges" if keep < 1 else "oscillates for ever"
    return "oscillates for ever" if lr == edge and keep < 1 else "diverges"


def conserved_quantity(lr: float, curvature: float, error: float, grad: float) -> float:
    """Return λw² + lr·G² + lr·λ·w·G, which no step changes at keep = 1, whatever the lr.

    Both are read between an update and the next backward pass: `error` is w as the update left it, `grad` the content
    of `.grad` at that time, new gradient not yet added (0 before the first step). Read between the backward pass and
    the update, `.grad` holds the new gradient λw too, and the same number is λw² + lr·G² − lr·λ·w·G: the sign of the
    last term is the other one.

    Below lr·λ = 4 it is positive whatever w and G are, so that neither can grow without bound nor both vanish: the
    orbit is an ellipse. At and above 4 its level lines are open and the error runs away along them.
    """
    _check(lr, curvature, 1.0)
    return curvature * error * error + lr * grad * grad + lr * curvature * error * grad


def effective_lr(lr: float, keep: float) -> float:
    """Return lr/(1 − keep): the total step along one gradient over all updates, lr·(1 + keep + keep² + …).

    At keep = 1 it is inf: every gradient counts for ever.

    Raises:
        ValueError: keep is not in (−1, 1], where that sum has no value.
    """
    _check(lr, 1.0, keep)
    if not -1 < keep <= 1:
        raise ValueError(f"keep must lie in (−1, 1] for an effective lr, got {keep}")
    return lr / (1 - keep) if keep < 1 else math.inf


# With noise


def stationary_variance(lr: float, curvature: float, keep: float, noise_variance: float) -> float:
    """Return the variance of the error in the long run when each gradient is λw plus independent noise of mean 0.

    With a = lr·λ and s² = `noise_variance`, in the unit of the gradient squared, it is

        lr²·s²·(1 + keep) / ((1 − keep)·a·(2 + 2·keep − a))

    since the error is an autoregressive process of order 2 with coefficients 1 + keep − a and −keep and innovations
    −lr·noise (Box & Jenkins, "Time Series Analysis", on AR(2)). The loss is ½λ times this above its minimum.
    Where training does not converge without noise, the variance grows for ever: inf.

    Raises:
        ValueError: the noise has a variance below 0.
    """
    _check_variance("noise_variance", noise_variance)
    if outcome(lr, curvature, keep) != "converges":
        return math.inf
    a = lr * curvature
    return lr * lr * noise_variance * (1 + keep) / ((1 - keep) * a * (2 + 2 * keep - a))


def small_lr_variance(lr: float, curvature: float, keep: float, noise_variance: float) -> float:
    """Return the limit of `stationary_variance` as lr·λ goes to 0: lr·s²/(2·λ·(1 − keep)).

    That is 1/(1 − keep) times plain SGD's at the same lr, and plain SGD's at `effective_lr`: keeping buys speed at
    the price of noise, as a larger lr would.

    Raises:
        ValueError: keep is not in (−1, 1), or the noise has a variance below 0.
    """
    _check(lr, curvature, keep)
    _check_variance("noise_variance", noise_variance)
    if not -1 < keep < 1:
        raise ValueError(f"keep must lie in (−1, 1) for a stationary variance, got {keep}")
    return lr * noise_variance / (2 * curvature * (1 - keep))


def mean_square_growth(lr: float, curvature: float, curvature_variance: float, keep: float) -> float:
    """Return the factor on the mean of w² per update in the long run, when each batch has its own curvature.

    In mini-batches of a linear regression with weight w the gradient is h·w, h being the batch's mean of the squared
    inputs: independent from step to step, of mean λ and variance v = `curvature_variance`. Then the moments E[w²],
    E[w·G], E[G²] of one step follow linearly from those of the last. With u = lr·G, a = lr·λ, c = lr²·v, k = keep:

        ⎡ (1 − a)² + c     −2k(1 − a)    k² ⎤
        ⎢ a − a² − c        k(1 − 2a)   −k² ⎥     on  (E[w²], E[w·u], E[u²])
        ⎣ a² + c            2ka          k² ⎦

    and this matrix has the characteristic polynomial

        (z − k)·(z − p²)·(z − q²) − c·z·(z + k)

    Its largest real root is returned; it is the spectral radius, for the matrix leads moments to moments (a map of a
    cone into itself: Krein & Rutman 1948). At keep = 1 the polynomial is −2c at z = 1, so that it has a root above 1
    however small the lr: without `zero_grad` the loss grows at every lr. For keep < 1 the mean square falls if and
    only if v·stationary_variance(lr, λ, keep, 1) < 1.

    Noise in the labels adds to the gradient and raises the level, but not this factor.

    Raises:
        ValueError: the curvature has a variance below 0.
    """
    _check_variance("curvature_variance", curvature_variance)
    rate = decay_rate(lr, curvature, keep)
    if curvature_variance == 0:
        return rate * rate
    # The polynomial in d = z − max(|p|, |q|)², lest a growth of 1 + 1e-12 drown: noise only ever adds, so that d > 0
    found, noise = _roots(lr, curvature, keep), lr * lr * curvature_variance
    free = rate * rate
    if found.angle:
        square = (2 * rate * math.sin(found.angle)) ** 2
        linear = keep * square
    else:
        square = free * found.ratio_gap * (3 - found.ratio_gap)
        linear = free * free * found.ratio_gap**2 * (2 - found.ratio_gap)
    return free + _largest_root(square - noise, linear - noise * (2 * free + keep), -noise * free * (free + keep))


# The roots as numbers that neither overflow nor cancel


class _Roots(NamedTuple):
    """The roots: either first and second, of which first is the larger in modulus, or first·exp(±i·angle)."""

    first: float  # p; of a conjugate pair ±√keep, with the sign of its real part
    second: float  # q; of a conjugate pair the same
    angle: float  # of a conjugate pair from the nearer half of the real axis, in (0, π/2]; else 0
    ratio_gap: float  # of real roots 1 − q/p, in [0, 2]; else 0
    weight: float  # of real roots 1 − q; else (1 − a − keep)/(2·first), the same for a double root


def _roots(lr: float, curvature: float, keep: float) -> _Roots:
    _check(lr, curvature, keep)
    a = lr * curvature
    total = (1 - a) + keep
    if keep >= 0:
        # total² − 4·keep = (total − 2√keep)·(total + 2√keep), each factor so that it keeps its digits near 0
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
    # 1 − q is a/(1 − p), since (1 − p)(1 − q) = a: whichever does not cancel
    weight = a / (1 - first) if abs(1 - first) > abs(1 - second) else 1 - second
    return _Roots(first, second, 0.0, gap / abs(first) if first else 0.0, weight)


def _error_over_power(found: _Roots, t: int) -> float:
    """Return S_{t+1} − keep·S_t over firstᵗ, as the sum qᵗ + (1 − q)·p·S_t written in terms that do not cancel."""
    if found.angle:
        return math.cos(t * found.angle) + found.weight * math.sin(t * found.angle) / math.sin(found.angle)
    if found.ratio_gap == 0:  # S_t = t·pᵗ⁻¹
        return 1 + found.weight * t
    left = (1 - found.ratio_gap) ** t  # (q/p)ᵗ
    done = -math.expm1(t * math.log1p(-found.ratio_gap)) if found.ratio_gap < 0.5 else 1 - left
    return left + found.weight * done / found.ratio_gap


def _power(base: float, exponent: int) -> float:
    try:
        return float(base**exponent)
    except OverflowError:
        return math.inf if base > 0 or exponent % 2 == 0 else -math.inf


def _largest_root(square: float, linear: float, constant: float) -> float:
    """Return the largest real root of d³ + square·d² + linear·d + constant, of which no root lies further right.

    Right of it the cubic and its derivatives are positive (Gauss–Lucas), so that Newton's iteration, started right of
    all roots (Cauchy's bound), falls to it and never passes it but for rounding.
    """
    d = 1 + max(abs(square), abs(linear), abs(constant))
    while True:
        lower = d - (((d + square) * d + linear) * d + constant) / ((3 * d + 2 * square) * d + linear)
        if not lower < d:
            return d
        d = lower


def _check(lr: float, curvature: float, keep: float) -> None:
    for name, value in (("lr", lr), ("curvature", curvature)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a finite number greater than 0, got {value}")
    if not math.isfinite(keep):
        raise ValueError(f"keep must be a finite number, got {keep}")


def _check_variance(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
