"""The traces of updates, and their storage."""

from __future__ import annotations

from gradlab.audit.history.history import OptimizerHistory
from gradlab.audit.history.trace import gathered_in, own_part


def test_equal_updates_are_one_stretch() -> None:
    optimizer = OptimizerHistory("SGD", 1)
    for nth in range(10_000):
        optimizer.add_update("zBe" if nth % 100 == 99 else "zB")
    assert (len(optimizer.stretches), optimizer.updates) == (200, 10_000)


def test_gradient_of_another_optimizers_loss_is_no_own_part() -> None:
    assert [own_part(trace) for trace in ("BozB", "zB", "BBo", "")] == ["zB", "zB", "BBo", ""]
    assert [gathered_in(trace) for trace in ("BozBB", "zBzB", "zBz")] == [2, 1, 0]
