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
