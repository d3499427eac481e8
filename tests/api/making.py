"""Tasks and calls that several tests of gradlab from Python share."""

from __future__ import annotations

import random
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gradlab
from gradlab import Task

MODES = ["zero_grad", "no_zero_grad"]
FACTOR = 1.0


def my_task(seed: int, width: int = 2) -> Task:  # noqa: ARG001 - gradlab seeds the generators
    model = torch.nn.Linear(width, 1)
    batches = [(torch.randn(3, width), torch.randn(3, 1)) for _ in range(4)]

    def loss(model: Any, batch: Any) -> torch.Tensor:
        return FACTOR * torch.nn.functional.mse_loss(model(batch[0]), batch[1])

    return Task(model, batches, loss)


def failing(seed: int) -> Task:
    made = my_task(seed)

    def loss(*_: Any) -> torch.Tensor:
        raise ZeroDivisionError("on purpose")

    return Task(made.model, made.batches, loss)


def exits_late(seed: int) -> Task:
    made = my_task(seed)

    def loss(*_: Any) -> torch.Tensor:
        raise SystemExit(3)

    return Task(made.model, made.batches, loss)


def short(task: Any = my_task, **more: Any) -> gradlab.api.run_results.ExperimentRuns:
    return gradlab.run(task, **{"modes": MODES, "steps": 6, "quiet": True, **more})


def swept(task: Any = my_task, **more: Any) -> Any:
    return gradlab.sweep(
        task, **{"vary": {"lr": [0.01, 0.1], "keep": "0:1:2"}, "steps": 4, "seeds": 2, "quiet": True, **more}
    )


def interrupting(seed: int, *, at: int = 3, times: int = 1) -> Task:
    made, calls = my_task(seed), []

    def loss(model: Any, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == at and not Path("asked").exists():
            Path("asked").touch()
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return made.loss(model, batch)

    return Task(made.model, made.batches, loss)


def state() -> list[object]:
    return [
        random.getstate(),
        repr(np.random.get_state()),
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
        threading.active_count(),
    ]
