"""`watch()` measures without changing the training and leaves nothing behind; `warn()` warns."""

from __future__ import annotations

import gc
import traceback
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from gradlab import audit
from tests.audit.training import multiplied, train

if TYPE_CHECKING:
    from gradlab.audit.recording.recorder import Recorder


@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}, {"momentum": 0.9, "nesterov": True}])
def test_losses_and_random_numbers_are_bit_for_bit_those_without(options: dict[str, Any]) -> None:
    def clear(_: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()

    plain = [*train(clear, **options), torch.rand(1).item()]
    with audit.watch(1) as report:
        audited = [*train(clear, **options), torch.rand(1).item()]
    assert audited == plain
    assert report.history.faults == []
    assert report.optimizers[0].updates == 12


def test_models_and_optimizers_are_not_kept_alive() -> None:
    with audit.watch(1):
        model = nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            loss: Any = model(torch.ones(2)).sum()
            loss.backward()
            optimizer.step()
        gone = [weakref.ref(each) for each in (model, optimizer, model.weight, loss)]
        gc.disable()
        try:
            del model, optimizer, loss
            assert [each() for each in gone] == [None] * 4
        finally:
            gc.enable()


def test_no_tensor_is_kept_of_those_that_are_measured() -> None:
    def alive_after(steps: int) -> int:
        model = torch.nn.Linear(1000, 10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(steps):
            optimizer.zero_grad()
            loss: Any = model(torch.ones(2, 1000)).square().mean()
            loss.backward()
            optimizer.step()
        gc.collect()
        return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())

    plain = alive_after(12)
    with audit.watch(1) as report:
        assert alive_after(12) == plain
    assert report.optimizers[0].keep is not None


def test_a_failure_of_the_audit_is_reported_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradlab.audit.recording.samples.sample", lambda _: 1 / 0)
    with audit.watch(1) as report:
        train(multiplied(0.0))
    assert "ZeroDivisionError" in report.history.faults[0]
    assert "the audit itself failed" in str(report)


def test_a_warning_of_torch_names_the_line_of_the_script() -> None:
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)
    with audit.watch(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.optim.lr_scheduler.StepLR(optimizer, 3).step()
    assert [warning.filename for warning in caught] == [__file__]


# warn()


@pytest.mark.usefixtures("warning_recorders")
def test_warn_warns_once_at_the_first_update_that_shows_it() -> None:
    audit.warn()
    seen = []

    def after(_: nn.Module, _optimizer: torch.optim.Optimizer) -> None:
        seen.append(len(caught))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(after)
    (warning,) = caught
    assert issubclass(warning.category, audit.GradientWarning)
    assert str(warning.message).startswith("never-cleared: ")
    assert warning.filename == train.__code__.co_filename
    assert seen.index(1) + 1 == 1 + 3  # the first update has no earlier gradient, and three must show it


@pytest.mark.usefixtures("warning_recorders")
def test_a_warning_that_is_an_error_is_raised_by_the_step() -> None:
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


def test_a_failure_of_a_rule_is_no_error_of_the_script(
    monkeypatch: pytest.MonkeyPatch, warning_recorders: list[Recorder]
) -> None:
    monkeypatch.setattr("gradlab.audit.findings.RULES", {"never-cleared": lambda _: 1 / 0})
    layer = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    audit.warn()
    layer(torch.ones(3)).sum().backward()
    optimizer.step()
    (recorder,) = warning_recorders
    assert recorder.history.faults == ["find: ZeroDivisionError: division by zero"]


def warned(keep: float, trainings: int = 1) -> list[str]:
    """Train with this keep, and return the ids of all warnings."""
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


@pytest.mark.usefixtures("warning_recorders")
def test_a_note_is_no_warning() -> None:
    assert warned(0.5) == []


@pytest.mark.usefixtures("warning_recorders")
def test_an_error_of_two_optimizers_is_warned_of_once() -> None:
    assert warned(1.0, trainings=2) == ["never-cleared"]
