"""TensorFlow: `tf.GradientTape` returns fresh gradients; keeping them needs code of your own."""

from __future__ import annotations

import importlib.util
from typing import Any

from gradlab import modes
from gradlab.engines import tensorflow
from gradlab.verify.claim import HOLDS, Claim, FigureValue, Measurement
from gradlab.verify.training import build_task, copy_weights, max_difference, train

STEPS, LR = 200, 0.01
ROUNDING = 1e-5  # float32 over 200 steps, on weights and losses near 1


def _gradient_tape() -> Measurement:
    if importlib.util.find_spec("tensorflow") is None:
        return Measurement({}, {}, skipped="pip install 'gradlab[tensorflow]'")
    figures: dict[str, FigureValue] = {}
    off = []
    for mode, words in ((modes.zero_grad(), "fresh gradients"), (modes.no_zero_grad(), "gradients summed by hand")):
        torchs = train(build_task("noisy_line", 0, samples=40, batch_size=20), mode, steps=STEPS, lr=LR)
        task = build_task("noisy_line", 0, samples=40, batch_size=20)
        rows = list(tensorflow.train(task, mode, LR, steps=STEPS))
        scale = max(torchs.losses)
        losses = max(abs(row.loss - loss) for row, loss in zip(rows, torchs.losses, strict=True)) / scale
        weights = max_difference(copy_weights(task.model), torchs.weights)
        off += [losses, weights]
        figures[f"{words}, {STEPS} steps: relative loss difference from torch"] = losses
        figures[f"{words}, {STEPS} steps: weight difference from torch"] = weights
    again = _second_gradient_over_first(tensorflow.start())
    figures["second gradient of one loss / first"] = again
    return Measurement({"": max(off) < ROUNDING and again == 1}, figures)


def _second_gradient_over_first(tf: Any) -> float:
    """Return the second gradient of one loss / the first: 1 if it is fresh, 2 if it adds up like `.grad`."""
    w = tf.Variable(3.0)
    with tf.GradientTape(persistent=True) as watched:
        loss = w * w
    first, second = watched.gradient(loss, w), watched.gradient(loss, w)
    return float(second / first)


CLAIMS = (
    Claim(
        "gradient-tape-has-the-same-role",
        "With tf.GradientTape, fresh gradients equal zero_grad(), and gradients summed by hand equal never clearing.",
        HOLDS,
        _gradient_tape,
    ),
)
