"""Single parameters and graphs: what is told of them, and that looking at them leaves nothing behind."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from gradlab import audit
from gradlab.audit import findings, names, reach
from gradlab.audit.graphs import Mark, reached_from
from gradlab.audit.history import History, Measured, OptimizerHistory, Stretch
from gradlab.audit.parameters import Crossing, Graphs, Moved, NotFinite, Parameter, Unowned
from gradlab.audit.places import Place

HERE = Place("train.py", 7)


def history_of(trace: str = "zB", updates: int = 24, measured: list[Measured] | None = None) -> History:
    optimizer = OptimizerHistory("SGD", 2, updates=updates, measured=measured or [])
    optimizer.stretches.append(Stretch(trace, 1, updates))
    return History([optimizer])


def ids(history: History) -> list[str]:
    return [each.id for each in findings.find(history)]


# Names


def test_a_parameter_is_named_as_its_model_names_it() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
            self.extra = [nn.Linear(1, 1)]
            self.scales = {"one": nn.Parameter(torch.ones(1))}

    net, alone = Net(), nn.Parameter(torch.ones(2, 3))
    known = dict(net.named_parameters())
    told = names.parameters_of([*known.values(), net.extra[0].bias, net.scales["one"], alone])
    assert [each.name for each in told] == [
        *(f"{name} of Net" for name in known), "extra[0].bias of Net", "scales['one'] of Net", "",
    ]  # fmt: skip
    assert [each.unseen for each in told][4:] == ["extra", "scales", ""]
    assert str(told[-1]) == "parameter of shape (2, 3)"


def test_a_module_that_is_in_a_list_and_registered_too_is_seen_by_its_model() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = [nn.Linear(1, 1)]
            self.first = self.blocks[0]

    net = Net()
    (told,) = names.parameters_of([net.first.weight])
    assert (told.name, told.unseen) == ("first.weight of Net", "")


# Graphs


def test_what_a_loss_reaches_is_what_gets_gradient() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    apart = nn.Linear(3, 1)
    model[0].bias.requires_grad_(False)
    loss: Any = model(torch.ones(4, 2)).sum() + apart(torch.ones(3)).detach()
    reached = reached_from([loss], "test", Mark())
    loss.backward()
    every = [*model.parameters(), *apart.parameters()]
    assert reached.whole
    assert {key for key in reached.leaves if key in {id(p) for p in every}} == {
        id(p) for p in every if p.grad is not None
    }


def test_a_mark_is_gone_with_its_graph_and_keeps_nothing() -> None:
    w = torch.ones(3, requires_grad=True)
    loss: Any = (w * 2).square().sum()
    mark = Mark()
    reached_from([loss], "test", mark)
    alive = weakref.ref(mark)
    del mark
    gc.disable()
    try:
        loss.backward()
        total = loss + 0
        del loss
        assert alive() is not None  # by what was added up
        del total
        assert alive() is None
    finally:
        gc.enable()


# From synthetic histories


def test_a_loss_that_leaks_must_do_so_each_time() -> None:
    history = history_of("BoB")
    mixed = [Crossing(nth, True, (HERE,), "Adam") for nth in (1, 2, 3)]
    history.optimizers[0].seen.crossings = mixed[:2]
    assert ids(history) == []
    history.optimizers[0].seen.crossings = mixed
    assert ids(history) == ["leaking-loss"]
    history.optimizers[0].seen.crossings = [*mixed, Crossing(4, False, (HERE,), "Adam")]
    assert ids(history) == []


def test_a_parameter_that_moves_and_gradient_that_is_not_finite_must_be_seen_three_times() -> None:
    parameter = Parameter((2,), 0)
    for times, found in ((2, []), (3, ["frozen-parameter-moves", "gradient-not-finite"])):
        history = history_of()
        history.optimizers[0].seen.moved[0, 0] = Moved(parameter, 3, zeros=True, times=times)
        history.optimizers[0].seen.not_finite = NotFinite(4, [parameter], 1, 3, times)
        assert ids(history) == found


def test_graphs_must_have_grown_at_three_looks() -> None:
    for looks, found in ((2, []), (3, ["graph-kept"])):
        history = history_of()
        history.graphs[HERE] = Graphs(HERE, 1, 10, 60, looks)
        assert ids(history) == found


def test_graphs_are_kept_where_all_of_many_are_alive_long_after() -> None:
    mark = Mark()

    def growing(alive: list[int], looked: list[int], update: int) -> bool:
        return reach._is_growing([reach._Marked(weakref.ref(mark), each) for each in alive], looked, update)

    kept = [1, 2, 3, 4, 5, 6]
    assert growing(kept, kept, 46)
    assert not growing(kept[1:], kept, 46)  # too few
    assert not growing(kept, kept, 30)  # not long after
    assert not growing(kept, [*kept, 23], 46)  # one is gone that came later: the others are kept for a reason


@pytest.mark.parametrize(
    ("unseen", "training", "severity"),
    [("layers", True, "error"), ("layers", False, "note"), ("", True, "warning"), ("", False, "note")],
)
def test_how_much_it_matters_that_no_optimizer_holds_it(unseen: str, training: bool, severity: str) -> None:
    history = history_of()
    history.unowned.append(Unowned(Parameter((1,), None, "a of B", unseen, training), 1, (HERE,)))
    assert [each.severity for each in findings.find(history)] == [severity]


@pytest.mark.parametrize(
    ("trace", "measured", "found"),
    [
        ("LLL", Measured(1, (1.0,), (1.0, 1.0), moved=True), True),
        ("zLLL", Measured(1, (0.0,), (1.0, 1.0), moved=True), True),
        ("L", Measured(1, (1.0,)), True),
        ("zLLL", Measured(1, (0.0,), (1.0, 1.0)), False),  # at the same weights: one call, that accumulates
        ("zLzL", Measured(1, (0.0,), (0.0,), moved=True), False),
        ("zLLzLL", Measured(1, (0.0,), (1.0, 0.0, 1.0), moved=True), False),
    ],
)
def test_a_closure_adds_up_where_weights_move_and_all_is_left(trace: str, measured: Measured, found: bool) -> None:
    history = history_of(trace, measured=[measured._replace(update=nth) for nth in (2, 3, 4)])
    assert ids(history) == ["closure-without-clearing"] * found


# What is told


def watched(source: str, sample: int | None = 1) -> audit.Report:
    head = "import torch\nfrom torch import nn\ntorch.manual_seed(0)\nx = torch.randn(8, 2)\n"
    with audit.watch(sample) as report:
        exec(compile(head + source, "<ipython-input-1>", "exec"), {"__name__": "cell"})  # noqa: S102 - it is ours
    assert report.history.faults == []
    return report


def test_gradients_that_are_not_finite_are_told_by_update_and_parameter() -> None:
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


def test_a_parameter_that_gets_gradient_late_and_between_samples_is_not_without() -> None:
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


def test_gradients_that_an_optimizer_itself_makes_up_for_are_nothing_to_tell() -> None:
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


def test_a_parameter_that_an_optimizer_gets_later_is_told_of_until_then() -> None:
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


def test_micro_batches_that_take_another_branch_in_each_window_are_micro_batches() -> None:
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


def test_an_optimizer_is_told_of_as_it_is_when_it_steps_with_all_of_its_groups() -> None:
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


def test_parameters_without_gradient_are_counted_among_all_that_there_are() -> None:
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
