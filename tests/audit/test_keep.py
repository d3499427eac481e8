"""The measured keep, and passes that are micro-batches."""

from __future__ import annotations

import pytest

from gradlab import audit
from gradlab.audit.history import keep
from gradlab.audit.history.history import MeasuredUpdate, OptimizerHistory, Stretch
from tests.audit.training import multiplied, train


@pytest.mark.parametrize("share", [0.0, 0.25, 0.9, 1.0, 1.5])
def test_keep_is_measured_as_the_share_that_was_left(share: float) -> None:
    with audit.watch(1) as report:
        train(multiplied(share))
    (optimizer,) = report.optimizers
    assert optimizer.keep is not None
    assert optimizer.keep == pytest.approx((share, share, share), abs=1e-6)  # float32 precision


@pytest.mark.parametrize(("lines", "batches", "so"), [(1, 0, True), (0, 0, False), (0, 2, True), (2, 2, False)])
def test_passes_without_lines_are_micro_batches_if_fetched(lines: int, batches: int, so: bool) -> None:
    measured = [MeasuredUpdate(nth, (0.0,), lines=lines) for nth in (1, 2, 3)]
    optimizer = OptimizerHistory("SGD", 2, updates=3, stretches=[Stretch("zBB", 1, 3)], measured=measured)
    optimizer.add_fetched(batches)
    assert keep.of_micro_batches(optimizer, 2) == so
