"""Search for a small regression whose loss curves with and without zero_grad() match given numbers.

The numbers are the mean training losses of the first epochs of the task `noisy_line` with plain SGD, to one decimal
(`WANTED`). They fall with zero_grad and grow without it. The search finds a seed, the shape of the task (inputs,
samples, batch size), its noise and the learning rate. The margin of a setting is its distance from the nearest number
that would round differently. A wide margin makes the result independent of the CPU.

Seed and shape determine all random values: the data, the initial weights and the order of the batches. So the task
draws them once, and both curves are computed from them for many learning rates at once. The noise level costs nothing:
the residual of a linear model under SGD is affine in it. So the mean squared error of an epoch is a quadratic. Its
coefficients come from two trajectories, one for the targets without noise and one for the noise alone.

Three stages narrow the search:

1. zero_grad alone, at coarse learning rates. Most seeds fail here.
2. Both modes, at learning rates near those that passed.
3. Both modes in float64, at learning rates and noise levels with few digits.

Finally, `gradlab.engines.loop.train` trains the best settings, and the script prints the results.

    python experiments/search_diverging_loss.py
    python experiments/search_diverging_loss.py --inputs 2 --samples 40 60 80 --batch-size 1 2 --seeds 10000 --digits 3
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import numpy as np
import torch

from gradlab.engines.loop import train
from gradlab.modes import Mode, halve_grad, no_zero_grad, zero_grad
from gradlab.tasks.builtin import noisy_line
from gradlab.tasks.loading import build, find

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gradlab.tasks.task import Minibatches

Array: TypeAlias = "NDArray[np.floating[Any]]"

WANTED = {zero_grad(): (1.5, 1.4, 1.3, 1.2), no_zero_grad(): (1.4, 1.9, 2.0, 2.8, 3.5)}
EPOCHS = 5
EDGE = 0.05  # a number printed as 1.4 is closer to 1.4 than this

# The grid holds lr x steps per epoch: the slope of the zero_grad curve depends on this product.
COARSE = np.geomspace(0.045, 0.4, 11)
FINE = (COARSE[1] / COARSE[0]) ** (np.arange(-3, 4) / 7)  # factors on a coarse value that fill its cell
NOISE = np.arange(0.7, 1.42, 0.025)

# Tolerance beyond EDGE at grid points, because the optimum lies between two of them. With no_zero_grad the loss
# oscillates, so the curve depends more on the learning rate than with zero_grad.
COARSE_SLACK = 0.025
FINE_SLACK = 0.08

SEEDS_AT_ONCE = 256  # small enough for the cache, large enough to hide NumPy's overhead per call


class Shape(NamedTuple):
    """The options of `noisy_line` that determine the random values and the batches."""

    inputs: int
    samples: int
    batch_size: int


class Setting(NamedTuple):
    """All settings of a run, with the margin first, so that settings sort by it."""

    margin: float
    seed: int
    shape: Shape
    noise: float
    lr: float


class Draws(NamedTuple):
    """The random values of several seeds; the last axis of each array is the seed.

    Attributes:
        rows: the inputs in training order, shape (epochs, samples, inputs, seeds).
        targets: targets without noise, and the noise at level 1, shape (epochs, samples, 2, seeds).
        start: initial weights, then the bias, and zeros for the noise, shape (inputs + 1, 2, seeds).
    """

    rows: Array
    targets: Array
    start: Array

    def take(self, which: Sequence[int] | NDArray[np.intp]) -> Draws:
        """Return the draws of some of the seeds."""
        return Draws(*(np.ascontiguousarray(each[..., which]) for each in self))

    def in_double(self) -> Draws:
        """Return the draws in float64."""
        return Draws(*(each.astype(np.float64) for each in self))


def draw(seeds: Sequence[int], inputs: int, samples: int) -> Draws:
    """Return the task's data, weights and orders; they do not depend on the batch size."""
    rows = np.empty((EPOCHS, samples, inputs, len(seeds)), np.float32)
    targets = np.empty((EPOCHS, samples, 2, len(seeds)), np.float32)
    start = np.zeros((inputs + 1, 2, len(seeds)), np.float32)
    for nth, seed in enumerate(seeds):
        clean = noisy_line(seed, inputs, samples, batch_size=samples, noise=0.0)
        torch.default_generator.manual_seed(seed)  # ten times as fast as torch.manual_seed
        noisy = noisy_line(seed, inputs, samples, batch_size=samples, noise=1.0)
        signal, batches = cast("Minibatches", clean.batches).targets, cast("Minibatches", noisy.batches)
        split = torch.cat([signal, batches.targets - signal], 1)
        order = torch.stack([torch.randperm(samples, generator=batches.generator) for _ in range(EPOCHS)])
        rows[..., nth] = batches.inputs[order].numpy()
        targets[..., nth] = split[order].numpy()
        start[:, 0, nth] = torch.cat([each.detach().flatten() for each in noisy.model.parameters()]).numpy()
    return Draws(rows, targets, start)


def curves(draws: Draws, batch_size: int, mode: Mode, lr: Array, epochs: int = EPOCHS) -> Array:
    """Return the coefficients of each epoch's mean loss c₀ + c₁·noise + c₂·noise², shape (3, epochs, rates, seeds).

    `lr` has shape (rates, seeds): every seed can have its own learning rates.
    """
    rows, targets, start = draws
    kind = rows.dtype.type
    samples, inputs = rows.shape[1:3]
    lr = lr.astype(kind)
    state = np.repeat(start[:, :, None], len(lr), axis=2)  # weights and bias, targets or noise, rates, seeds
    grad = np.zeros_like(state)
    residual, term, square = np.empty_like(state[0]), np.empty_like(state[0]), np.empty_like(state[0, 0])
    sums = np.zeros((3, epochs, *lr.shape), kind)
    for epoch, first in product(range(epochs), range(0, samples, batch_size)):
        size = min(batch_size, samples - first)
        grad *= kind(mode.keep)
        for row in range(first, first + size):
            np.subtract(state[inputs], targets[epoch, row, :, None], out=residual)
            for weight in range(inputs):
                residual += np.multiply(rows[epoch, row, weight], state[weight], out=term)
            for power, (one, other) in enumerate(((0, 0), (0, 1), (1, 1))):
                np.multiply(residual[one], residual[other], out=square)
                sums[power, epoch] += np.divide(square, kind(size), out=square)
            residual *= kind(2 / size)
            for weight in range(inputs):
                grad[weight] += np.multiply(rows[epoch, row, weight], residual, out=term)
            grad[inputs] += residual
        state -= lr * grad
    sums /= kind(math.ceil(samples / batch_size))
    sums[1] *= 2
    return sums


def deviation(found: Array, mode: Mode, noise: Array) -> Array:
    """Return the deviation of the worst epoch from the wanted losses, shape (rates, seeds, noise levels)."""
    worst = np.zeros((*found.shape[2:], len(noise)), found.dtype)
    noise = noise.astype(found.dtype)
    for (constant, linear, square), wanted in zip(found.swapaxes(0, 1), WANTED[mode], strict=False):
        mean = square[..., None] * noise
        mean += linear[..., None]
        mean *= noise
        mean += constant[..., None] - found.dtype.type(wanted)
        np.maximum(worst, np.abs(mean, out=mean), out=worst)
    return worst


def both(draws: Draws, batch_size: int, lr: Array, noise: Array) -> Array:
    """Return the deviation of the worst of the nine numbers, shape (rates, seeds, noise levels)."""
    found = (deviation(curves(draws, batch_size, each, lr, len(WANTED[each])), each, noise) for each in WANTED)
    return cast("Array", np.maximum(*found))


def search(seeds: Sequence[int], inputs: int, samples: int, batch_sizes: Sequence[int], digits: int) -> list[Setting]:
    """Return the settings among these seeds and shapes that match all nine numbers."""
    drawn = draw(seeds, inputs, samples)
    settings: list[Setting] = []
    for batch_size in batch_sizes:
        shape = Shape(inputs, samples, batch_size)
        steps = math.ceil(samples / batch_size)
        clear = zero_grad()
        rates = np.repeat(COARSE[:, None] / steps, len(seeds), axis=1)
        found = deviation(curves(drawn, batch_size, clear, rates, len(WANTED[clear])), clear, NOISE).min(axis=2)
        cell, nth = np.nonzero(found < EDGE + COARSE_SLACK)
        if len(nth) == 0:
            continue
        rates = FINE[:, None] * COARSE[cell] / steps
        worst = both(drawn.take(nth), batch_size, rates, NOISE)
        for column in np.nonzero(worst.min(axis=(0, 2)) < EDGE + FINE_SLACK)[0]:
            rate, level = np.unravel_index(worst[:, column].argmin(), worst[:, column].shape)
            best = rounded(drawn.take([nth[column]]), batch_size, rates[rate, column], NOISE[level], digits)
            if best[0] > 0:
                settings.append(Setting(best[0], seeds[nth[column]], shape, *best[1:]))
    return settings


def rounded(draws: Draws, batch_size: int, lr: float, noise: float, digits: int) -> tuple[float, float, float]:
    """Return the best margin near `lr` and `noise`, with its noise and lr; both have at most `digits` digits."""
    rates = np.unique([float(f"{each:.{digits}g}") for each in lr * np.linspace(0.95, 1.05, 101)])
    levels = np.unique([float(f"{each:.{digits}g}") for each in noise + np.linspace(-0.06, 0.06, 121)])
    worst = both(draws.in_double(), batch_size, rates[:, None], levels)[:, 0]
    rate, level = np.unravel_index(worst.argmin(), worst.shape)
    return EDGE - float(worst[rate, level]), float(levels[level]), float(rates[rate])


def trained(setting: Setting, mode: Mode) -> list[float]:
    """Return each epoch's mean loss from real training."""
    task = build(find("noisy_line"), setting.seed, {**setting.shape._asdict(), "noise": setting.noise})
    optimizer = torch.optim.SGD(task.model.parameters(), lr=setting.lr)
    losses: list[list[float]] = [[] for _ in range(EPOCHS)]
    for row in train(task, mode, optimizer, epochs=EPOCHS):
        losses[row.epoch].append(row.loss)
    return [math.fsum(each) / len(each) for each in losses]


def report(setting: Setting) -> str:
    """Train with the setting and describe the result."""
    means = {mode: trained(setting, mode) for mode in (*WANTED, halve_grad())}
    margin = EDGE - max(abs(a - b) for mode in WANTED for a, b in zip(means[mode], WANTED[mode], strict=False))
    options = ", ".join(f"{name} {value}" for name, value in setting.shape._asdict().items())
    lines = [f"seed {setting.seed}, {options}, noise {setting.noise:g}, lr {setting.lr:g}: margin {margin:.4f}"]
    for mode, losses in means.items():
        missed = any(f"{a:.1f}" != f"{b:.1f}" for a, b in zip(losses, WANTED.get(mode, ()), strict=False))
        lines.append(f"  {mode.name:<13}" + "".join(f"{each:9.4f}" for each in losses) + "  MISSED" * missed)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Search, and print the best settings."""
    asked = _arguments()
    torch.set_num_threads(1)  # sums depend on the number of threads
    jobs = list(_jobs(asked))
    began = time.perf_counter()
    with ProcessPoolExecutor(asked.workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        settings = [each for found in pool.map(search, *zip(*jobs, strict=True)) for each in found]
    took = time.perf_counter() - began
    pairs = asked.seeds * len(asked.inputs) * len(asked.samples) * len(asked.batch_size)
    best = {(each.seed, each.shape): each for each in sorted(settings)}.values()  # the last, so the best, of each pair
    sys.stdout.write(
        f"{pairs:,} pairs of seed and shape, each at up to {len(COARSE) * len(FINE)} learning rates and {len(NOISE)} "
        f"noise levels, in {took:.0f} s; {len(best)} match all nine numbers. The best:\n"
    )
    for setting in sorted(best, reverse=True)[: asked.top]:
        sys.stdout.write("\n" + report(setting))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=1000, help="number of seeds (default: %(default)s)")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed (default: %(default)s)")
    parser.add_argument("--inputs", type=int, nargs="+", default=[1, 2, 3], help="numbers of inputs (default: 1 2 3)")
    parser.add_argument(
        "--samples", type=int, nargs="+", default=range(30, 121), help="numbers of samples (default: 30 to 120)"
    )
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1], help="batch sizes (default: 1)")
    parser.add_argument("--digits", type=int, default=2, help="digits of noise and lr (default: %(default)s)")
    parser.add_argument("--top", type=int, default=5, help="number of settings to print (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="number of processes (default: %(default)s)")
    return parser.parse_args()


def _jobs(asked: argparse.Namespace) -> Iterator[tuple[range, int, int, list[int], int]]:
    end = asked.first_seed + asked.seeds
    for first in range(asked.first_seed, end, SEEDS_AT_ONCE):
        seeds = range(first, min(first + SEEDS_AT_ONCE, end))
        for inputs, samples in product(asked.inputs, asked.samples):
            yield seeds, inputs, samples, asked.batch_size, asked.digits


if __name__ == "__main__":
    main()
