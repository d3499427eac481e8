"""What `gradlab.audit.warn()` warns of: errors and warnings, each id once; and of notes nothing."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest
import torch

from gradlab import audit
from gradlab.audit import active

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _no_longer_warning() -> Iterator[None]:
    yield
    for recorder in audit._warning:
        active.end(recorder)  # type: ignore[arg-type]  # it is one
    audit._warning.clear()


def warned(keep: float, trainings: int = 1) -> list[str]:
    """Train, keep so much of each gradient, and return the ids that are warned of."""
    audit.warn(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(trainings):
            w = torch.ones(3, requires_grad=True)
            optimizer = torch.optim.SGD([w], lr=0.01)
            for _ in range(9):
                w.square().sum().backward()  # type: ignore[no-untyped-call]  # torch does not say
                optimizer.step()
                assert w.grad is not None
                w.grad *= keep
    return [str(each.message).partition(":")[0] for each in caught]


def test_of_a_note_there_is_no_warning() -> None:
    assert warned(0.5) == []


def test_an_error_of_two_optimizers_is_warned_of_once() -> None:
    assert warned(1.0, trainings=2) == ["never-cleared"]
