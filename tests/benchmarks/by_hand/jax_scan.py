"""Three modes × 5 seeds × 2,000 steps in JAX, jit(vmap(vmap(scan))): logged, drawn, a summary printed.

Weights, data and the order of the batches are read from start.npz, so that the curves are those of torch: in favour of
this script, which draws nothing and does without torch.
"""

from __future__ import annotations

import csv
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

LR, STEPS, SEEDS, BATCH, SAMPLES = 0.01, 2000, 5, 32, 1024
MODES = {"zero_grad": 0.0, "no_zero_grad": 1.0, "halve_grad": 0.5}


def loss_of(weights: Any, inputs: Any, targets: Any) -> Any:
    hidden = jax.nn.relu(inputs @ weights["w0"] + weights["b0"])
    hidden = jax.nn.relu(hidden @ weights["w1"] + weights["b1"])
    logits = jax.nn.log_softmax(hidden @ weights["w2"] + weights["b2"])
    return -jnp.take_along_axis(logits, targets[:, None], axis=1).mean()


def train(keep: Any, weights: Any, inputs: Any, targets: Any) -> Any:
    def step(state: Any, batch: Any) -> Any:
        weights, kept = state
        loss, grads = jax.value_and_grad(loss_of)(weights, *batch)
        kept = jax.tree.map(lambda each, grad: keep * each + grad, kept, grads)
        weights = jax.tree.map(lambda each, grad: each - LR * grad, weights, kept)
        return (weights, kept), loss

    begin = weights, jax.tree.map(jnp.zeros_like, weights)
    return jax.lax.scan(step, begin, (inputs, targets))[1]


def main() -> None:
    with np.load("start.npz") as start:
        arrays = dict(start)
    order, x, y = arrays.pop("order"), arrays.pop("x"), arrays.pop("y")
    seeds = np.arange(SEEDS)[:, None, None]
    of_seeds = jax.vmap(train, in_axes=(None, 0, 0, 0))
    of_all = jax.jit(jax.vmap(of_seeds, in_axes=(0, None, None, None)))
    losses = np.asarray(of_all(jnp.asarray(list(MODES.values())), arrays, x[seeds, order], y[seeds, order]))
    with open("losses.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["mode", "seed", "step", "loss"])
        for mode, of_mode in zip(MODES, losses.tolist(), strict=True):
            for seed, each in enumerate(of_mode):
                writer.writerows([mode, seed, step, loss] for step, loss in enumerate(each))
    figure, axes = plt.subplots(figsize=(8, 5))
    ends = np.arange(0, STEPS, SAMPLES // BATCH)
    for mode, each in zip(MODES, losses, strict=True):
        epochs = np.add.reduceat(each, ends, axis=1) / np.diff(ends, append=STEPS)
        middle = np.median(epochs, axis=0)
        axes.plot(middle, label=mode)
        axes.fill_between(range(len(middle)), epochs.min(0), epochs.max(0), alpha=0.2)
        print(f"{mode:14} first {np.median(each[:, 0]):.4g} last epoch {middle[-1]:.4g} best {each.min():.4g}")
    axes.set(xlabel="epoch", ylabel="training loss", yscale="log")
    axes.legend()
    figure.savefig("losses.png", dpi=150)


if __name__ == "__main__":
    main()
