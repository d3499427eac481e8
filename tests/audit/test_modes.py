"""Modes of modules: eval mode at steps, and `requires_grad` set on a module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from gradlab import audit
from gradlab.audit.findings import find
from tests.audit.training import watch_cell

if TYPE_CHECKING:
    from gradlab.audit import Report

EVAL = """
body, head = nn.Sequential(nn.Linear(2, 4), {layer}), nn.Linear(4, 1)
model = nn.Sequential(body, head)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for nth in range(20):
    {before}
    model(x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
FLAG = """
class User(nn.Linear):
    def forward(self, x):
        with torch.set_grad_enabled(self.requires_grad):
            return super().forward(x)
user = User(2, 2)
body, head = nn.Sequential(nn.Linear(2, 4), nn.Tanh()), nn.Linear(4, 1)
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters(), *user.parameters()], lr=0.01)
for nth in range(20):
    {before}
    head(body(x)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


def found(report: Report, rule: str) -> list[str]:
    return [each.message for each in find(report.history, {rule})]


@pytest.mark.parametrize(
    ("layer", "before", "expected"),
    [
        ("nn.Dropout(0.1)", "model.eval()", 20),
        ("nn.Dropout(0.1)", "model.eval() if nth >= 10 else None", 10),
        ("nn.Dropout(0.1)", "model.eval() if nth >= 11 else None", 0),  # at fewer than half of the updates
        ("nn.Dropout(0.1)", "model.eval() if nth % 2 else model.train()", 10),
        ("nn.Dropout(0.1)", "[body.eval(), head.eval()]", 20),
        ("nn.Dropout(0.1)", "body.eval()", 0),  # only a part
        ("nn.Dropout(0.1)", "[model.eval(), body[1].train()]", 0),
        ("nn.Dropout(0.0)", "model.eval()", 0),
        ("nn.Tanh()", "model.eval()", 0),
        ("nn.BatchNorm1d(4)", "model.eval()", 20),
        ("nn.BatchNorm1d(4, affine=False)", "model.eval()", 20),
        ("nn.BatchNorm1d(4, track_running_stats=False)", "model.eval()", 0),
        ("nn.BatchNorm1d(4).requires_grad_(False)", "model.eval()", 0),  # frozen
        ("nn.LSTM(4, 4, 2, dropout=0.1)", "model = nn.Sequential(body[0], head).eval()", 0),  # not in this network
    ],
)
def test_eval_mode_counts_for_whole_networks(layer: str, before: str, expected: int) -> None:
    report = watch_cell(EVAL.format(layer=layer, before=before), select=("trained-in-eval-mode",))
    mode = report.history.optimizers[0].seen.eval_mode
    messages = found(report, "trained-in-eval-mode")
    assert [f"at {expected} of 20 measured updates" in each for each in messages] == [True] * bool(expected)
    assert (mode is None) == (not expected and "nth" not in before)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (
            "body.requires_grad = False",
            ["= False on Sequential has", "2 parameters still require gradient (at the end)"],
        ),
        ("body[0].requires_grad = body.requires_grad = False", ["on Linear", "on Sequential"]),
        ("body.requires_grad_(False).requires_grad = True", ["= True on Sequential", "still require no gradient"]),
        ("body.requires_grad = True", []),
        ("body.requires_grad = False; body[0].bias.requires_grad_(False)", []),
        ("body.requires_grad = 'later'", []),
        ("body[1].requires_grad = False", []),  # without parameters
        ("nn.Linear(2, 2).requires_grad = False", []),  # deleted
        ("user.requires_grad = False", []),  # its class uses the name
    ],
)
def test_an_attribute_of_a_module_has_no_effect(before: str, expected: list[str]) -> None:
    with audit.watch(select=["requires-grad-of-module"]) as report:
        variables: dict[str, object] = {"torch": torch, "nn": nn, "x": torch.ones(8, 2)}
        exec(compile(FLAG.format(before=before), "<ipython-input-1>", "exec"), variables)  # noqa: S102 - our own
    messages = found(report, "requires-grad-of-module")
    assert bool(messages) == bool(expected)
    assert all(any(each in message for message in messages) for each in expected)
