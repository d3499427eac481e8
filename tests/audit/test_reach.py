"""Which parameters gradient reaches, and what becomes of them."""

from __future__ import annotations

import pytest

from gradlab import audit


def watched(source: str, sample: int | None = 1) -> audit.Report:
    head = "import torch\nfrom torch import nn\ntorch.manual_seed(0)\nx = torch.randn(8, 2)\n"
    with audit.watch(sample) as report:
        exec(compile(head + source, "<ipython-input-1>", "exec"), {"__name__": "cell"})  # noqa: S102 - it is ours
    assert report.history.faults == []
    return report


@pytest.mark.parametrize(
    ("updates", "kept", "found"),
    [
        (50, "nth in (3, 4, 5, 6, 7, 8)", True),
        (50, "nth in (4, 5, 6, 7, 8)", False),  # too few
        (30, "nth in (3, 4, 5, 6, 7, 8)", False),  # not long after
        (50, "nth in (1, 2, 3, 4, 5, 6, 8)", False),  # 7 is gone, so the others are kept for a reason
    ],
)
def test_graphs_are_kept_where_all_of_many_live_on(updates: int, kept: str, found: bool) -> None:
    report = watched(f"""
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


def test_nonfinite_gradients_are_reported_with_their_update() -> None:
    report = watched("""
model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
scale = nn.Parameter(torch.ones(1))
optimizer = torch.optim.SGD([*model.parameters(), scale], lr=0.01)
for nth in range(12):
    optimizer.zero_grad()
    root = (scale - scale.detach()).abs().sqrt().sum() if nth == 4 else 0
    (model(x).square().mean() + root).backward()
    optimizer.step()
    with torch.no_grad():
        scale.nan_to_num_(1.0)
""")
    assert [each.id for each in report.findings] == []  # once is not enough, nor where it is mended
    seen = report.history.optimizers[0].seen.not_finite
    assert seen is not None
    assert (seen.since, seen.finite_at, seen.count, str(seen.parameters[0])) == (5, 4, 1, "parameter 4 of shape (1,)")


def test_a_late_gradient_between_samples_is_noticed() -> None:
    report = watched(
        """
used, late = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
optimizer = torch.optim.SGD([used, late], lr=0.01)
for nth in range(60):
    optimizer.zero_grad()
    (x @ (used + late if nth == 49 else used)).square().mean().backward()
    optimizer.step()
""",
        None,
    )
    assert [each.id for each in report.findings] == []


def test_nonfinite_gradients_that_an_optimizer_mends_are_fine() -> None:
    report = watched("""
class Sign(torch.optim.SGD):
    def step(self):
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p -= 0.01 * p.grad.nan_to_num(0.0).sign()
w = nn.Parameter(torch.ones(2))
optimizer = Sign([w])
for nth in range(12):
    optimizer.zero_grad()
    (float("inf") * (x @ w).square().mean()).backward()
    optimizer.step()
""")
    assert [each.id for each in report.findings] == []


def test_a_parameter_that_an_optimizer_gets_later_is_no_finding() -> None:
    source = """
used, late = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
optimizer = torch.optim.SGD([used], lr=0.01)
for nth in range(12):
    if nth == {joins}:
        other = torch.optim.SGD([late], lr=0.01)  # and takes no step
    (x @ (used + late)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
    assert [each.id for each in watched(source.format(joins=6)).findings] == []
    assert [each.id for each in watched(source.format(joins=-1)).findings] == ["parameter-without-optimizer"]


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
        watched(source.format(taken=taken, of=of)).optimizers[0].mode
        for taken, of in ((moving, "body(x)"), (same, "body(x)"), ("(nth % 4, (nth + 1) % 4)", "x"), ("(0, 0)", "x"))
    ]
    assert modes == ["accumulate:3:sum", "zero_grad", "zero_grad", "accumulate:2:sum"]


def test_groups_that_are_added_count_in_the_report() -> None:
    source = """
first, second, third = (nn.Linear(2, 2) for _ in range(3))
optimizer = torch.optim.SGD(first.parameters(), lr=0.01)
optimizer.add_param_group({{"params": second.parameters(), "momentum": {momentum}}})
for nth in range(6):
    second(first(x)).square().mean().backward()
    optimizer.step()
    if nth == 3:
        optimizer.add_param_group({{"params": third.parameters()}})
"""
    (one,), (other,) = (watched(source.format(momentum=momentum)).optimizers for momentum in (0.9, 0.0))
    assert (one.parameters, other.parameters) == (6, 6)
    assert ("momentum" in one.meaning, "momentum" in other.meaning) == (False, True)


def test_parameters_without_gradient_are_counted_among_all() -> None:
    report = watched("""
used, unused = nn.Linear(2, 1), nn.Linear(2, 1)
optimizer = torch.optim.SGD(used.parameters(), lr=0.01)
optimizer.add_param_group({"params": unused.parameters()})
for nth in range(12):
    optimizer.zero_grad()
    used(x).square().mean().backward()
    optimizer.step()
""")
    (found,) = report.findings
    assert "2 of the 4" in found.message
