"""Parameters that no optimizer holds."""

from __future__ import annotations

from tests.audit.training import watch_cell


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
    assert [each.id for each in watch_cell(source.format(joins=6)).findings] == []
    assert [each.id for each in watch_cell(source.format(joins=-1)).findings] == ["parameter-without-optimizer"]
