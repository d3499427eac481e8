"""Schedulers with an end, terms of a loss by line, and new optimizers of the same parameters."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from typer.testing import CliRunner

from gradlab import audit
from gradlab.audit.findings import DEFAULT, RULES, find
from gradlab.audit.recording.schedules import total_steps
from gradlab.cli import app
from tests.audit.training import watch_cell

if TYPE_CHECKING:
    from pathlib import Path


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)


def constant(_step: int, num_training_steps: int = 0) -> float:
    return 1.0 - 0 * num_training_steps


class Cosine(lr_scheduler.CosineAnnealingLR):
    """A scheduler of a script."""


@pytest.mark.parametrize(
    ("scheduler", "total"),
    [
        (lr_scheduler.OneCycleLR(optimizer(), 0.1, epochs=3, steps_per_epoch=5), 15),
        (Cosine(optimizer(), 12), 12),
        (lr_scheduler.LinearLR(optimizer(), total_iters=4), 4),
        (lr_scheduler.PolynomialLR(optimizer(), 6), 6),
        (lr_scheduler.ConstantLR(optimizer()), 5),
        (lr_scheduler.LambdaLR(optimizer(), partial(constant, num_training_steps=30)), 30),
        (lr_scheduler.LambdaLR(optimizer(), constant), None),
        (lr_scheduler.StepLR(optimizer(), 30), None),
        (lr_scheduler.CosineAnnealingWarmRestarts(optimizer(), 5), None),
    ],
)
def test_the_number_of_steps_of_a_scheduler(scheduler: Any, total: int | None) -> None:
    assert total_steps(scheduler) == total


LOOP = """
w = nn.Parameter(torch.ones(2))
optimizer = torch.optim.{optimizer}
{before}
for nth in range({updates}):
    loss = (x @ w).square().mean()
    loss = {loss}
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    {after}
"""


def messages(rule: str, **parts: str) -> list[str]:
    usual = {"optimizer": "SGD([w], lr=0.01)", "before": "", "updates": "20", "loss": "loss", "after": ""}
    return [each.message for each in find(watch_cell(LOOP.format(**(usual | parts)), select=(rule,)).history, {rule})]


@pytest.mark.parametrize(
    ("total", "updates", "after", "expected"),
    [
        ("40", "20", "scheduler.step()", ["made for 40 steps, but took 20 in 20 updates"]),
        ("39", "20", "scheduler.step()", []),
        ("20", "20", "scheduler.step() if nth % 5 == 4 else None", ["made for 20 steps, but took 4 in 20 updates"]),
        ("40", "7", "scheduler.step()", []),  # too short
        ("40", "20", "pass", []),
    ],
)
def test_a_scheduler_takes_half_of_its_steps(total: str, updates: str, after: str, expected: list[str]) -> None:
    before = f"scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, {total})"
    found = messages("scheduler-too-long", before=before, updates=updates, after=after)
    assert len(found) == len(expected)
    assert all(part in each for part, each in zip(expected, found, strict=True))


LONG_SCHEDULER = """
import torch
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
for nth in range(20):
    optimizer.zero_grad()
    w.square().sum().backward()
    optimizer.step()
    scheduler.step()
"""


@pytest.mark.usefixtures("_main_restored")
@pytest.mark.parametrize(
    ("options", "end", "found"),
    [
        ([], "", True),
        (["--max-updates", "10"], "", False),
        ([], "raise KeyboardInterrupt", False),
        ([], "1 / 0", False),
    ],
    ids=["whole", "limit", "SIGINT", "exception"],
)
def test_a_scheduler_of_an_ended_training_is_not_too_long(
    folder: Path, options: list[str], end: str, found: bool
) -> None:
    (folder / "s.py").write_text(LONG_SCHEDULER + end)
    done = CliRunner().invoke(app, ["audit", "--select", "scheduler-too-long", *options, "s.py"])
    assert ("scheduler-too-long" in done.stderr) is found
    assert done.exit_code == (130 if "Interrupt" in end else int(found or bool(end)))


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        ("loss + 0.1 * loss.item()", True),
        ("1024 * (loss + 0.1 * loss.detach())", True),
        ("loss + 0.1", False),
        ("loss + 1e-5 * loss.item()", False),  # may be rounding
        ("loss + 0.1 * loss.item() if nth else loss", True),
        ("loss + 0.1 * loss.item() if nth != 3 else loss", False),  # at times without it
        ("loss + 0.1 * loss.item() if nth in (2, 3) else loss.exp()", False),  # too few
    ],
)
def test_a_term_must_change(loss: str, found: bool) -> None:
    assert bool(messages("term-without-graph", loss=loss)) == found


ADAM = "Adam([w], lr=0.01)"
AGAIN = "optimizer = torch.optim.Adam([w], lr=0.01)"


@pytest.mark.parametrize(
    ("optimizer", "after", "found"),
    [
        (ADAM, f"if nth % 4 == 3: {AGAIN}", True),
        (ADAM, f"if nth % 8 == 7: {AGAIN}", False),  # too few
        ("SGD([w], lr=0.01)", "if nth % 4 == 3: optimizer = torch.optim.SGD([w], lr=0.01)", False),  # without state
        (ADAM, f"state = optimizer.state_dict(); {AGAIN}; optimizer.load_state_dict(state)", False),
        (ADAM, f"if nth % 4 == 3: {AGAIN}; w.data.fill_(1)", False),  # training begins again
        (ADAM, f"if nth % 4 == 3: w = nn.Parameter(w.detach()); {AGAIN}", False),  # other parameters
    ],
)
def test_the_state_of_an_optimizer_is_lost(optimizer: str, after: str, found: bool) -> None:
    assert bool(messages("state-thrown-away", optimizer=optimizer, after=after)) == found


EVERYTHING = """
model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)).eval()
model[0].requires_grad = False
for epoch in range(5):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    for nth in range(4):
        loss = model(x).square().mean()
        (loss + 0.1 * loss.detach()).backward()
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
"""
OFF = tuple(sorted(RULES.keys() - DEFAULT))


@pytest.mark.parametrize("select", [(), *((each,) for each in OFF), OFF])
def test_only_what_chosen_rules_need_is_recorded(select: tuple[str, ...]) -> None:
    variables: dict[str, object] = {"torch": torch, "nn": nn, "x": torch.ones(8, 2)}
    with audit.watch(1, select=select) as report:
        exec(compile(EVERYTHING, "<ipython-input-1>", "exec"), variables)  # noqa: S102 - our own code
    assert {each.id for each in find(report.history, OFF)} == set(select)


@pytest.mark.usefixtures("_main_restored")
def test_the_command_records_what_a_chosen_rule_needs(folder: Path) -> None:
    (folder / "s.py").write_text("import torch\nfrom torch import nn\nx = torch.ones(8, 2)\n" + EVERYTHING)
    options = [word for each in OFF for word in ("--select", each)]
    done = CliRunner().invoke(app, ["audit", "--json", *options, "s.py"])
    assert {each["id"] for each in json.loads(done.stdout)["findings"]} == set(OFF)
