"""Windows of accumulation: what their traces tell, and where they tell too little."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradlab import audit
from gradlab.audit import findings
from gradlab.audit.history import History, OptimizerHistory
from gradlab.audit.loss import Loss

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def history_of(traces: Iterable[str], pending: str = "", loss: Loss | None = None) -> History:
    optimizer = OptimizerHistory("SGD", 2)
    for trace in traces:
        optimizer.add_update(trace)
        optimizer.add_losses(trace, [loss] if loss else [])
    optimizer.pending = pending
    return History([optimizer])


def found(traces: Iterable[str], pending: str = "", loss: Loss | None = None) -> list[tuple[str, str]]:
    return [(each.id, each.severity) for each in findings.find(history_of(traces, pending, loss))]


def epochs(number: int, *lengths: int, between: str = "", before: str = "eb") -> list[str]:
    """Return traces of so many epochs, of windows of so many passes each; `between` them is what the last one left."""
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
        (epochs(3, 4, 4, between="BB", before="b"), "", [LEAKS]),  # left early
        (epochs(2, 4, 4, between="BB"), "zBBe", [LEAKS]),
        (epochs(2, 4, 4, between="BB"), "zBB", []),  # seen once
        (epochs(3, 4, 4), "", []),
        (epochs(3, 4, 4, 2), "", []),
        (epochs(3, 4, 4, 1), "", []),
        (["zBBBB", "zBBBB", "zBBeBb", "zBBBB", "zBBBB", "zBBeBb"], "", []),  # fetched ahead: no window of ours
        (["zBBBB", "zBBBB", "zBBebBB", "zBBBB", "zBBBB", "zBBebBB"], "", []),  # over the end, and as long as all
        (["zBBBB", "zBBBB", "zBebBBB", "zBBBB", "zBBBB", "zBBBebB"], "", []),
        (["zBBBB", "zBBBB", "zezBbzBBBB", "zBBBB", "zezBbzBBBB"], "", []),  # a gradient asked for between epochs
        (epochs(3, 4, 4, between="BBBBB", before="ezb"), "", []),  # more than a window, and cleared
        ([*epochs(3, 4, 4, between="BB"), "zebBBBB"], "", []),  # one epoch ended well
        (epochs(3, 1, 4, 4, between="BBB"), "zBBBe", [OFF]),
        (epochs(3, 1, 4, 4, between="B", before="ezb"), "", [OFF]),
        (epochs(3, 1, 4, 4, 3), "", [OFF]),
        (epochs(3, 5, 4, 4, between="BBB"), "", [OFF]),
        (["zB", *["zBBBB"] * 3], "", [OFF]),
        (["zB", *["zBBBB"] * 2], "", []),  # too few
        (["zB", *["zBBBB"] * 9, "zBB", *["zBBBB"] * 9], "", []),
        (["zB", "zB", *["zBBBB"] * 9], "", []),
        (["zBB", *["zBBBB"] * 9], "", []),
        (["zB", *["zBBBBukBBBB"] * 4], "", [OFF]),  # a step is skipped
        (["zB", *["zyBBBB"] * 4], "", []),
        (["LLLL"] * 9, "", []),
        (["", "zBBBB", *epochs(3, 4, 4, between="BB")], "", [LEAKS]),  # watched from the middle on
        (["", *epochs(3, 1, 4, 4, 3)[1:]], "", [OFF]),
        (["", "zB", *["zBBBB"] * 9], "", []),
    ],
)
def test_what_traces_tell_of_windows(traces: list[str], pending: str, expected: list[tuple[str, str]]) -> None:
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
        (Loss((2.0, 2.0), 1 / 4, "mean"), epochs(3, 2, 2), []),  # ½ of a square, say
    ],
)
def test_what_losses_tell_of_windows(loss: Loss, traces: list[str], expected: list[tuple[str, str]]) -> None:
    assert found(traces, loss=loss) == expected


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        ("zBcBc", ["clipped-at-every-micro-batch"]),
        ("zBcBcuk" + "zBcBc", ["clipped-at-every-micro-batch"]),
        ("zBBc", []),
        ("zBczBc", []),  # clipped one by one, and put together by hand
        ("czB", ["clipped-before-backward"]),
        ("zcBB", ["clipped-before-backward"]),
        ("czBc", []),
        ("BcozB", []),  # of another optimizer's step
        ("zBcu", ["clipped-before-unscale"]),
        ("zBucukzBcu", ["clipped-before-unscale"]),
        ("zBucu", []),
        ("zBcuc", []),
        ("zBsBsB", ["scheduler-at-every-micro-batch"]),
        ("szBB", []),
        ("zBusk" + "zBu", []),  # the scheduler goes on where a step is skipped
    ],
)
def test_what_traces_tell_of_clipping_and_of_schedulers(trace: str, expected: list[str]) -> None:
    assert [name for name, _ in found([trace] * 4)] == expected
    assert found([trace] * 2) == []


# How batches are given


def loader_of(samples: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.randn(samples, 3)), batch_size=4)


def ahead(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield batches, the next one fetched already, as some frameworks do."""
    rest = iter(batches)
    last = next(rest)
    for each in rest:
        yield last
        last = each
    yield last


def traces_of(passes: Iterable[Iterable[Any]], every: int) -> list[str]:
    model = nn.Linear(3, 1)
    with audit.watch() as report:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for batches in passes:
            nth = 0
            for nth, (inputs,) in enumerate(batches, 1):
                model(inputs).mean().backward()
                if nth % every == 0:
                    optimizer.step()
                    optimizer.zero_grad()
            if nth % every:
                optimizer.step()
                optimizer.zero_grad()
    (seen,) = report.history.optimizers
    return [*chain.from_iterable([trace] * times for trace, times in seen.traces()), seen.pending]


def test_the_end_and_the_next_beginning_of_an_epoch_are_heard() -> None:
    loader = loader_of(12)
    assert traces_of([loader, loader], 2) == ["BB", "zBe", "zbBB", "zBe", "z"]
    assert traces_of([ahead(loader), ahead(loader)], 2) == ["BB", "zeB", "zbBB", "zeB", "z"]


def test_an_epoch_that_is_left_early_is_heard_to_begin_anew() -> None:
    loader = loader_of(40)
    assert traces_of([_first(loader, 4), _first(loader, 4)], 2) == [
        "BB", "zBB", "zbBB", "zBB", "z",
    ]  # fmt: skip


def _first(batches: Iterable[Any], number: int) -> Iterator[Any]:
    for nth, each in enumerate(batches, 1):
        yield each
        if nth == number:
            return


def test_a_loader_made_anew_for_each_epoch_is_one_of_the_same_data() -> None:
    loader = loader_of(16)
    again = DataLoader(loader.dataset, batch_size=4)
    assert traces_of([loader, again], 2) == ["BB", "zBB", "zebBB", "zBB", "ze"]


def test_an_evaluation_is_no_epoch() -> None:
    loader, other = loader_of(16), loader_of(8)
    model = nn.Linear(3, 1)
    with audit.watch() as report, torch.no_grad():
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(3):
            for (inputs,) in loader:
                with torch.enable_grad():
                    model(inputs).mean().backward()
                optimizer.step()
                optimizer.zero_grad()
                assert len([model(one) for (one,) in other]) == 2
    assert {each.trace for each in report.history.optimizers[0].stretches} == {"B", "zB", "zebB"}


def test_losses_are_read_where_an_update_takes_several_passes_though_it_is_not_measured() -> None:
    model = nn.Linear(3, 1)
    with audit.watch(1000) as report:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for nth in range(1, 41):
            (model(torch.ones(2, 3)).mean() / 4).backward()
            if nth % 4 == 0 or nth % 10 == 0:
                optimizer.step()
                optimizer.zero_grad()
    (seen,) = report.history.optimizers
    assert sum(times for times, _ in seen.losses.values()) == seen.updates > len(seen.measured)


def test_the_sum_is_told_in_the_report() -> None:
    model = nn.Linear(3, 1)
    with audit.watch() as report:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for nth, (inputs,) in enumerate(loader_of(64), 1):
            model(inputs).sum().backward()
            if nth % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
    assert [each.mode for each in report.optimizers] == ["accumulate:4:sum"]
    assert "summed" in report.optimizers[0].meaning
    assert report.findings == []
