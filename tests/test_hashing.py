"""Hashes: equal where type, shape and content are equal, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from gradlab.tasks.hashing import hash_of

# Hashes


@dataclass
class Holder:
    """A batch of a class of the user's own."""

    x: object


@dataclass(slots=True)
class Slotted:
    """A batch without a `__dict__`."""

    x: object


class Text(str):
    """A string with room for more."""


def circle(value: object) -> Holder:
    """Return an object that holds itself, as a node of a graph does."""
    made = Holder([value])
    made.x = [value, made]
    return made


EQUAL: list[tuple[Any, Any]] = [
    (torch.arange(6.0).reshape(2, 3), torch.arange(6.0).reshape(3, 2).T.contiguous().T.reshape(2, 3)),
    (torch.arange(6.0)[::2], torch.tensor([0.0, 2.0, 4.0])),
    (torch.ones(2, requires_grad=True), torch.ones(2)),
    (torch.eye(2).to_sparse(), torch.eye(2).to_sparse()),
    (torch.tensor(True), torch.tensor(True)),
    (torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)),
    (torch.empty(0), torch.zeros(0)),
    (np.arange(3), np.arange(3)),
    ({"x": [1, (2.0, "three")], "y": None}, {"x": [1, (2.0, "three")], "y": None}),
    (Holder([1, "two"]), Holder([1, "two"])),
    (Holder(torch.ones(3)), Holder(torch.ones(3))),
    (Holder({"deep": [torch.ones(3)]}), Holder({"deep": [torch.ones(3)]})),
    (Slotted(torch.ones(3)), Slotted(torch.ones(3))),
    (circle(torch.ones(3)), circle(torch.ones(3))),
]


DIFFERENT: list[tuple[Any, Any]] = [
    (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0000002])),
    (torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0])),
    (torch.ones(2, 3), torch.ones(3, 2)),
    (torch.ones(2), torch.ones(2, dtype=torch.float64)),
    (torch.zeros(1), torch.tensor([-0.0])),
    (torch.zeros(1, dtype=torch.int32), torch.zeros(1)),
    (np.arange(3), np.arange(3.0)),
    (np.arange(4), np.arange(4).reshape(2, 2)),
    (np.arange(3), np.array([0, 1, 3])),
    (torch.arange(3), np.arange(3)),
    ([1, 2], (1, 2)),
    ([1, 2], [1, 2, 2]),
    ([1, 2], [1, "2"]),
    (["ab", "c"], ["a", "bc"]),
    ({"x": 1}, {"y": 1}),
    ({"x": 1}, {"x": 2}),
    ({"x": 1}, OrderedDict(x=1)),
    ({"x": {"y": 1}, "z": 2}, {"x": {"y": 1, "z": 2}}),
    (Holder([1, "two"]), Holder([1, "three"])),
    (Holder(torch.ones(3)), Holder(torch.zeros(3))),
    (Slotted(torch.ones(3)), Slotted(torch.zeros(3))),
    (circle(torch.ones(3)), circle(torch.zeros(3))),
    (Text("one"), Text("other")),
    (np.ma.MaskedArray([1, 2]), np.ma.MaskedArray([1, 3])),
    ([[1], 2], [[1, 2]]),
    ([[torch.ones(1)], torch.ones(1)], [[torch.ones(1), torch.ones(1)]]),
    ([[], 1], [[1]]),
]


@pytest.mark.parametrize(("one", "other"), EQUAL, ids=lambda value: type(value).__name__)
def test_equal_batches_have_equal_hashes(one: object, other: object) -> None:
    assert hash_of(one) == hash_of(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=lambda value: type(value).__name__)
def test_different_batches_have_different_hashes(one: object, other: object) -> None:
    assert hash_of(one) != hash_of(other)


def test_what_cannot_be_hashed_is_hashed_by_its_type() -> None:
    def local() -> None:
        """Not to be pickled."""

    assert hash_of([local]) == hash_of([lambda: None]) != hash_of([1])


@pytest.mark.slow
def test_a_hash_is_the_same_in_another_process() -> None:
    value = "[{'x': torch.arange(3.0), 'y': ('a', 1)}, None]"
    code = f"import torch\nfrom gradlab.tasks.hashing import hash_of\nprint(hash_of({value}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hash_of([{"x": torch.arange(3.0), "y": ("a", 1)}, None])
