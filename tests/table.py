"""The table of modes × tasks × optimizers that goes through every general claim: a new mode is one row."""

from __future__ import annotations

MODES = [
    "zero_grad",
    "zero_grad:fill",
    "no_zero_grad",
    "halve_grad",
    "decay:0.9",
    "accumulate:4",
    "accumulate:4:sum",
    "accumulate:4:means",
    "keep=0.5,every=4",
    "keep=-0.25,every=3:sum",
]
TASKS: list[tuple[str, dict[str, object]]] = [
    ("noisy_line", {"samples": 10, "batch_size": 3}),
    ("straight_line", {}),
    ("digits", {"hidden": 4, "batch_size": 512}),
    ("linear_4x3", {"samples": 4}),
    ("heads_in_turn", {"heads": 2, "hidden": 3, "batch_size": 5, "rounds": 2}),
    ("echo", {"length": 11, "chunk": 3, "hidden": 3}),
]
OPTIMIZERS: list[tuple[str, dict[str, object]]] = [
    ("SGD", {"lr": 0.01}),
    ("SGD", {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01}),
    ("vanilla", {"lr": 0.01}),
]
