"""Graphs that stay alive after their backward pass."""

from __future__ import annotations

import pytest

from tests.audit.training import watch_cell


@pytest.mark.parametrize(
    ("updates", "kept", "found"),
    [
        (50, "nth > 2", True),
        (50, "nth in (8, 25, 26, 27, 28)", False),  # too few
        (30, "nth > 2", False),  # not long enough
        (30, "True", True),  # all of them, until the end
        (16, "True", False),  # not long enough for that
        (30, "nth < 25", False),  # not until the end
        (50, "nth != 7", False),  # 7 is gone, so the others are kept on purpose
    ],
)
def test_graphs_are_kept_where_all_of_many_live_on(updates: int, kept: str, found: bool) -> None:
    report = watch_cell(f"""
w, losses = nn.Parameter(torch.ones(2)), []
optimizer = torch.optim.SGD([w], lr=0.01)
for nth in range(1, {updates} + 1):
    optimizer.zero_grad()
    loss = (x @ w).square().mean()
    loss.backward()
    optimizer.step()
    losses += [loss] if {kept} else []
""")
    assert bool(report.history.graphs) == found


RETAINED = """
w, other, kept = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2)), []
optimizer, second = torch.optim.SGD([w], lr=0.01), torch.optim.SGD([other], lr=0.01)
for nth in range(30):
    features = (x @ other).tanh()
    optimizer.zero_grad()
    (x @ w - features).square().mean().backward(retain_graph=True)
    optimizer.step()
    kept.append(features.mean())
second.zero_grad()
{pass_at_the_end}
second.step()
"""


@pytest.mark.parametrize(
    ("pass_at_the_end", "found"),
    [
        ("sum(kept).backward()", False),
        ("sum(kept).backward(retain_graph=True)", True),  # they stay alive
        ("sum(kept[:3]).backward()", True),  # it needs only a few of them
        ("kept[0].detach().mul(other).sum().backward()", True),
        ("(other * 2).sum().backward()", True),
    ],
)
def test_retained_graphs_of_a_later_pass_are_not_kept(pass_at_the_end: str, found: bool) -> None:
    assert bool(watch_cell(RETAINED.format(pass_at_the_end=pass_at_the_end)).history.graphs) == found


@pytest.mark.parametrize(("epochs", "updates", "found"), [(1, 20, True), (2, 30, False), (2, 60, True)])
def test_graphs_of_a_long_or_only_epoch_are_kept(epochs: int, updates: int, found: bool) -> None:
    report = watch_cell(f"""
w = nn.Parameter(torch.ones(2))
optimizer = torch.optim.SGD([w], lr=0.01)
for epoch in range({epochs}):
    total = 0.0
    for _ in range({updates}):
        optimizer.zero_grad()
        loss = (x @ w).square().mean()
        loss.backward()
        optimizer.step()
        total += loss
""")
    assert bool(report.history.graphs) == found
