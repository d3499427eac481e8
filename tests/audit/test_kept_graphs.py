"""Graphs that stay alive after their backward pass."""

from __future__ import annotations

import pytest

from tests.audit.training import watch_cell


@pytest.mark.parametrize(
    ("updates", "kept", "found"),
    [
        (50, "nth in (3, 4, 5, 6, 7, 8)", True),
        (50, "nth in (4, 5, 6, 7, 8)", False),  # too few
        (30, "nth in (3, 4, 5, 6, 7, 8)", False),  # not long enough
        (50, "nth in (1, 2, 3, 4, 5, 6, 8)", False),  # 7 is gone, so the others are kept on purpose
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
