"""Findings of the rules in synthetic histories, and histories with too little evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gradlab.audit import findings
from gradlab.audit.history.history import History, MeasuredUpdate, OptimizerHistory
from gradlab.audit.history.loss import Loss
from gradlab.audit.history.parameters import Crossing, Graphs, Moved, NotFinite, Parameter, Unowned
from gradlab.audit.places import Place

if TYPE_CHECKING:
    from collections.abc import Sequence


HERE = Place("train.py", 7)
USUAL = ["zB"] * 24


def history_of(
    traces: Sequence[str], pending: str = "", loss: Loss | None = None, measured: Sequence[MeasuredUpdate] = ()
) -> History:
    """Return the history of an optimizer with these traces and equal losses, which steps HERE."""
    optimizer = OptimizerHistory("SGD", 2, measured=list(measured), pending=pending)
    for trace in traces:
        optimizer.add_update(trace)
        optimizer.add_losses(trace, [loss] if loss else [])
    optimizer.add_place("S", HERE)
    return History([optimizer])


def ids(history: History) -> list[str]:
    return [each.id for each in findings.find(history)]


# Traces


def found(traces: Sequence[str], pending: str = "", loss: Loss | None = None) -> list[tuple[str, str]]:
    return [(each.id, each.severity) for each in findings.find(history_of(traces, pending, loss))]


def epochs(number: int, *lengths: int, between: str = "", before: str = "eb") -> list[str]:
    """Return the traces of epochs with windows of these lengths; `between` is what an epoch leaves over."""
    of_one = ["z" + "B" * length for length in lengths]
    later = ["z" + between + before + "B" * lengths[0], *of_one[1:]]
    return of_one + later * (number - 1)


LEAKS, DROPPED = ("last-window-leaks", "warning"), ("last-window-dropped", "warning")


OFF = ("first-window-off-by-one", "warning")


@pytest.mark.parametrize(
    ("traces", "pending", "expected"),
    [
        (epochs(3, 4, 4, between="BB"), "zBBe", [LEAKS]),
        (epochs(3, 4, 4, between="BB", before="ezb"), "zBBe", [DROPPED]),
        (epochs(3, 4, 4, between="BB", before="zeb"), "", [DROPPED]),
        (epochs(3, 4, 4, between="BB", before="b"), "", [LEAKS]),  # epoch left early
        (epochs(2, 4, 4, between="BB"), "zBBe", [LEAKS]),
        (epochs(2, 4, 4, between="BB"), "zBB", []),  # seen once
        (epochs(3, 4, 4), "", []),
        (epochs(3, 4, 4, 2), "", []),
        (epochs(3, 4, 4, 1), "", []),
        (["zBBBB", "zBBBB", "zBBeBb", "zBBBB", "zBBBB", "zBBeBb"], "", []),  # prefetched: not the pattern
        (["zBBBB", "zBBBB", "zBBebBB", "zBBBB", "zBBBB", "zBBebBB"], "", []),  # across the end, with the usual length
        (["zBBBB", "zBBBB", "zBebBBB", "zBBBB", "zBBBB", "zBBBebB"], "", []),
        (["zBBBB", "zBBBB", "zezBbzBBBB", "zBBBB", "zezBbzBBBB"], "", []),  # a gradient computed between epochs
        (epochs(3, 4, 4, between="BBBBB", before="ezb"), "", []),  # more than a window, and cleared
        ([*epochs(3, 4, 4, between="BB"), "zebBBBB"], "", []),  # one epoch ended correctly
        (epochs(3, 1, 4, 4, between="BBB"), "zBBBe", [OFF]),
        (epochs(3, 1, 4, 4, between="B", before="ezb"), "", [OFF]),
        (epochs(3, 1, 4, 4, 3), "", [OFF]),
        (epochs(3, 5, 4, 4, between="BBB"), "", [OFF]),
        (["zB", *["zBBBB"] * 3], "", [OFF]),
        (["zB", *["zBBBB"] * 2], "", []),  # too few
        (["zB", *["zBBBB"] * 9, "zBB", *["zBBBB"] * 9], "", []),
        (["zB", "zB", *["zBBBB"] * 9], "", []),
        (["zBB", *["zBBBB"] * 9], "", []),
        (["zB", *["zBBBBukBBBB"] * 4], "", [OFF]),  # with a skipped step
        (["zB", *["zyBBBB"] * 4], "", []),
        (["LLLL"] * 9, "", []),
        (["", "zBBBB", *epochs(3, 4, 4, between="BB")], "", [LEAKS]),  # the watch began later
        (["", *epochs(3, 1, 4, 4, 3)[1:]], "", [OFF]),
        (["", "zB", *["zBBBB"] * 9], "", []),
    ],
)
def test_findings_of_windows_by_trace(traces: list[str], pending: str, expected: list[tuple[str, str]]) -> None:
    assert found(traces, pending) == expected


@pytest.mark.parametrize(
    ("loss", "traces", "expected"),
    [
        (Loss((4.0,), 0.25, "mean"), epochs(3, 4, 4, 2), [("last-window-divided-by-n", "warning")]),
        (Loss((4.0,), 0.25, "mean", own=False), epochs(3, 4, 4, 2), [("last-window-divided-by-n", "note")]),
        (Loss((4.0,), 0.25, "mean"), epochs(1, 4, 4, 4, 2), []),  # seen once
        (Loss((4.0,), 0.25, "mean"), epochs(3, 1, 4, 4, 3), [OFF]),  # one cause, one finding
        (Loss((), 1.0, "sum"), epochs(3, 4, 4), []),
        (Loss((), 1.0, "mean"), epochs(3, 4, 4), [("loss-not-divided", "note")]),
        (Loss((), 0.1, "mean"), epochs(3, 4, 4), []),
        (Loss((4.0, 4.0), 1 / 16, "mean"), epochs(3, 4, 4), [("divided-twice", "error")]),
        (Loss((4.0, 4.0), 1 / 16, "mean", terms=True), epochs(3, 4, 4), []),
        (Loss((2.0, 2.0), 1 / 4, "mean"), epochs(3, 2, 2), []),  # may be ½ of a square
    ],
)
def test_findings_of_windows_by_loss(loss: Loss, traces: list[str], expected: list[tuple[str, str]]) -> None:
    assert found(traces, loss=loss) == expected


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        ("zBcBc", ["clipped-at-every-micro-batch"]),
        ("zBcBcuk" + "zBcBc", ["clipped-at-every-micro-batch"]),
        ("zBBc", []),
        ("zBczBc", []),  # clipped separately, combined by hand
        ("czB", ["clipped-before-backward"]),
        ("zcBB", ["clipped-before-backward"]),
        ("czBc", []),
        ("BcozB", []),  # for another optimizer's step
        ("zBcu", ["clipped-before-unscale"]),
        ("zBucukzBcu", ["clipped-before-unscale"]),
        ("zBucu", []),
        ("zBcuc", []),
        ("zBsBsB", ["scheduler-at-every-micro-batch"]),
        ("szBB", []),
        ("zBusk" + "zBu", []),  # the scheduler steps although an update is skipped
    ],
)
def test_findings_of_clipping_and_schedulers_by_trace(trace: str, expected: list[str]) -> None:
    assert [name for name, _ in found([trace] * 4)] == expected
    assert found([trace] * 2) == []


# Measured updates


def test_two_updates_are_too_few_to_say_never() -> None:
    kept = [MeasuredUpdate(nth, (1.0,)) for nth in (2, 3)]
    assert findings.find(history_of(["B"] * 3, measured=kept)) == []
    (found,) = findings.find(history_of(["B"] * 4, measured=[*kept, MeasuredUpdate(4, (1.0,))]))
    assert (found.id, found.since_update, found.places) == ("never-cleared", 2, (HERE,))


def test_a_gradient_that_was_gone_once_was_not_never_cleared() -> None:
    kept = [MeasuredUpdate(nth, (1.0,)) for nth in range(2, 9)]
    assert findings.find(history_of(["B"] * 9, measured=[*kept, MeasuredUpdate(9, (0.0,))])) == []


# Parameters and graphs


def test_a_loss_that_leaks_must_do_so_each_time() -> None:
    history = history_of(["BoB"] * 24)
    mixed = [Crossing(nth, True, (HERE,), "Adam") for nth in (1, 2, 3)]
    history.optimizers[0].seen.crossings = mixed[:2]
    assert ids(history) == []
    history.optimizers[0].seen.crossings = mixed
    assert ids(history) == ["leaking-loss"]
    history.optimizers[0].seen.crossings = [*mixed, Crossing(4, False, (HERE,), "Adam")]
    assert ids(history) == []


@pytest.mark.parametrize(("times", "found"), [(2, []), (3, ["frozen-parameter-moves", "gradient-not-finite"])])
def test_what_befalls_a_parameter_must_be_seen_three_times(times: int, found: list[str]) -> None:
    parameter = Parameter((2,), 0)
    history = history_of(USUAL)
    history.optimizers[0].seen.moved[0, 0] = Moved(parameter, 3, zeros=True, times=times)
    history.optimizers[0].seen.not_finite = NotFinite(4, [parameter], 1, 3, times)
    assert ids(history) == found


@pytest.mark.parametrize(("looks", "found"), [(2, []), (3, ["graph-kept"])])
def test_graphs_must_have_grown_at_three_looks(looks: int, found: list[str]) -> None:
    history = history_of(USUAL)
    history.graphs[HERE] = Graphs(HERE, 1, 10, 60, looks)
    assert ids(history) == found


@pytest.mark.parametrize(
    ("unseen", "training", "severity"),
    [("layers", True, "error"), ("layers", False, "note"), ("", True, "warning"), ("", False, "note")],
)
def test_how_much_it_matters_that_no_optimizer_holds_it(unseen: str, training: bool, severity: str) -> None:
    history = history_of(USUAL)
    history.unowned.append(Unowned(Parameter((1,), None, "a of B", unseen, training), 1, (HERE,)))
    assert [each.severity for each in findings.find(history)] == [severity]


@pytest.mark.parametrize(
    ("trace", "measured", "found"),
    [
        ("LLL", MeasuredUpdate(1, (1.0,), (1.0, 1.0), moved=True), True),
        ("zLLL", MeasuredUpdate(1, (0.0,), (1.0, 1.0), moved=True), True),
        ("L", MeasuredUpdate(1, (1.0,)), True),
        ("zLLL", MeasuredUpdate(1, (0.0,), (1.0, 1.0)), False),  # the same weights: one call that accumulates
        ("zLzL", MeasuredUpdate(1, (0.0,), (0.0,), moved=True), False),
        ("zLLzLL", MeasuredUpdate(1, (0.0,), (1.0, 0.0, 1.0), moved=True), False),
    ],
)
def test_a_closure_adds_up_where_weights_move(trace: str, measured: MeasuredUpdate, found: bool) -> None:
    history = history_of([trace] * 24, measured=[measured._replace(update=nth) for nth in (2, 3, 4)])
    assert ids(history) == ["closure-without-clearing"] * found
