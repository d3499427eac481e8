"""Checks of parameters: which ones gradient reaches, and what a step does to them."""

from __future__ import annotations

import pytest

from tests.audit.training import watch_cell


def test_nonfinite_gradients_are_reported_with_their_update() -> None:
    report = watch_cell("""
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
    assert [each.id for each in report.findings] == []  # once is not enough, and a repaired one does not count
    seen = report.history.optimizers[0].seen.not_finite
    assert seen is not None
    assert (seen.since, seen.finite_at, seen.count, str(seen.parameters[0])) == (5, 4, 1, "parameter 4 of shape (1,)")


def test_a_late_gradient_between_samples_is_noticed() -> None:
    report = watch_cell(
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
    report = watch_cell("""
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
    (one,), (other,) = (watch_cell(source.format(momentum=momentum)).optimizers for momentum in (0.9, 0.0))
    assert (one.parameters, other.parameters) == (6, 6)
    assert ("momentum" in one.meaning, "momentum" in other.meaning) == (False, True)


def test_parameters_without_gradient_are_counted_among_all() -> None:
    report = watch_cell("""
used, unused = nn.Linear(2, 1), nn.Linear(2, 1)
optimizer = torch.optim.SGD(used.parameters(), lr=0.01)
optimizer.add_param_group({"params": unused.parameters()})
for nth in range(12):
    optimizer.zero_grad()
    used(x).square().mean().backward()
    optimizer.step()
""")
    (found,) = report.findings
    assert "2 of its 4" in found.message


LATE_NAN = """
def train(updates, first):
    w = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([w], lr=0.01)
    other = torch.optim.Adam([nn.Parameter(torch.ones(2))])
    for nth in range(1, updates + 1):
        optimizer.zero_grad()
        loss = (x @ w).square().mean()
        {more}
        (loss * float("nan") if nth == first else loss).backward()
        optimizer.step()
train(144, {first})
"""


@pytest.mark.parametrize(
    ("first", "more", "expected"),
    [
        (117, "pass", ["between updates 115 and 117; the weights are not finite either (at 3 updates)"]),
        (141, "pass", [" and 141; the weights are not finite either (at 3 updates)"]),
        (142, "pass", []),  # two losses are too few
        (117, "other.step()", ["between updates 116 and 117"]),  # with two optimizers, all passes are recorded in full
    ],
)
def test_nan_after_the_last_measured_updates_is_seen(first: int, more: str, expected: list[str]) -> None:
    report = watch_cell(LATE_NAN.format(first=first, more=more), None)
    messages = [each.message for each in report.findings if each.id == "gradient-not-finite"]
    assert len(messages) == len(expected)
    assert all(part in each for part, each in zip(expected, messages, strict=True))


def test_lost_losses_with_finite_weights_are_fine() -> None:
    report = watch_cell(
        """
w = nn.Parameter(torch.ones(2))
optimizer = torch.optim.SGD([w], lr=0.01)
for nth in range(144):
    optimizer.zero_grad()
    loss = (x @ w).square().mean()
    (loss * float("nan")).backward() if nth > 110 else loss.backward()
    w.grad.nan_to_num_()
    optimizer.step()
""",
        None,
    )
    assert [each.id for each in report.findings] == []
    assert report.history.optimizers[0].stretches[-1].trace == "zB"
