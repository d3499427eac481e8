"""warn(): each error and warning is warned of once, and raised by the script's own line where warnings are errors."""

from __future__ import annotations

import traceback
import warnings

import pytest
import torch

from gradlab import audit

pytestmark = pytest.mark.usefixtures("_no_longer_warning")


def test_a_warning_that_is_an_error_is_raised_by_the_step_and_others_hear_of_that_update_all_the_same() -> None:
    layer = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    raised = []
    audit.warn()
    with audit.watch() as report, warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(6):
            layer(torch.ones(3)).sum().backward()
            try:
                optimizer.step()
            except audit.GradientWarning as error:
                raised.append(error)
    (warning,) = raised
    assert str(warning).startswith("never-cleared: ")
    assert traceback.extract_tb(warning.__traceback__)[0].line == "optimizer.step()"
    assert (report.optimizers[0].updates, report.history.faults) == (6, [])


def test_a_failure_of_a_rule_is_no_error_of_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradlab.audit.findings.RULES", [lambda _: 1 / 0])
    layer = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    audit.warn()
    layer(torch.ones(3)).sum().backward()
    optimizer.step()
    (recorder,) = audit._warning
    assert recorder.history.faults == ["find: ZeroDivisionError: division by zero"]  # type: ignore[attr-defined]  # of a Recorder


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
