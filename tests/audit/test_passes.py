"""The losses behind the backward passes of a window."""

from __future__ import annotations

from tests.audit.training import watch_cell


def test_micro_batches_may_take_another_branch_in_each_window() -> None:
    source = """
body, branches = nn.Linear(2, 2), nn.ModuleList(nn.Linear(2, 1) for _ in range(4))
optimizer = torch.optim.SGD([*body.parameters(), *branches.parameters()], lr=0.01)
for nth in range(12):
    for taken in {taken}:
        (branches[taken]({of})).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
    moving, same = "(nth % 4, (nth + 1) % 4, nth % 3)", "(0, 1)"
    modes = [
        watch_cell(source.format(taken=taken, of=of)).optimizers[0].mode
        for taken, of in ((moving, "body(x)"), (same, "body(x)"), ("(nth % 4, (nth + 1) % 4)", "x"), ("(0, 0)", "x"))
    ]
    assert modes == ["accumulate:3:sum", "zero_grad", "zero_grad", "accumulate:2:sum"]
