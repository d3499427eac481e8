"""The runs of the benchmark of ensembles as one writes them in JAX: `jit(vmap(vmap(scan)))`."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from tests.benchmarks.turns import Cost, now


def loss_of(weights: Any, inputs: Any, targets: Any) -> Any:
    """Return the mean cross-entropy of one batch: weights as a torch.nn.Sequential names them."""
    hidden = jax.nn.relu(inputs @ weights["0.weight"].T + weights["0.bias"])
    hidden = jax.nn.relu(hidden @ weights["2.weight"].T + weights["2.bias"])
    logits = hidden @ weights["4.weight"].T + weights["4.bias"]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], axis=1).mean()


def step(keep: Any, lr: float, state: Any, batch: Any) -> Any:
    """Take a step of SGD along G ← keep·G + g; return the loss before it."""
    weights, kept = state
    loss, grads = jax.value_and_grad(loss_of)(weights, *batch)
    kept = jax.tree.map(lambda each, grad: keep * each + grad, kept, grads)
    weights = jax.tree.map(lambda each, grad: each - lr * grad, weights, kept)
    return (weights, kept), loss


def train(lr: float, weights: Any, inputs: Any, targets: Any, keep: Any) -> Any:
    """Return the losses of one run."""
    begin = weights, jax.tree.map(jnp.zeros_like, weights)
    return jax.lax.scan(partial(step, keep, lr), begin, (inputs, targets))[1]


def trained(
    weights: dict[str, Any], inputs: Any, targets: Any, keeps: list[float], lr: float
) -> tuple[Cost, Any, Cost, Cost]:
    """Return the losses, shape (seeds, keeps, steps), and the time before, once compiled, and at the end."""
    of_keeps = jax.vmap(partial(train, lr), in_axes=(None, None, None, 0))  # which share the batches of their seed
    of_all = jax.jit(jax.vmap(of_keeps, in_axes=(0, 0, 0, None)))
    arguments = weights, inputs, targets, jnp.asarray(keeps)
    begin = now()
    compiled = of_all.lower(*arguments).compile()
    ready = now()
    losses = jax.block_until_ready(compiled(*arguments))
    return begin, losses, ready, now()
