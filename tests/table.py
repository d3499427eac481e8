"""The table of modes × tasks × optimizers that goes through every general claim: a new mode is one row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _pytest.mark import ParameterSet

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


def each_with_each(first: Sequence[object], second: Sequence[object]) -> list[ParameterSet]:
    """Return every pair; those beyond the first few in which each of both occurs are slow."""
    return [
        pytest.param(one, other, marks=[pytest.mark.slow] * ((i - j) % min(len(first), len(second)) != 0))
        for i, one in enumerate(first)
        for j, other in enumerate(second)
    ]
