"""warn(): where warnings are errors, the script's own line raises what is found."""

from __future__ import annotations

import traceback
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
