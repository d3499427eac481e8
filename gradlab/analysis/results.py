"""Results of runs, read from their folders, and checks of the experiment's expectations."""

from __future__ import annotations

from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.analysis import curves
from gradlab.experiment import inequality_of
from gradlab.rows import TRAINING_SET_LOSS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from gradlab.experiment import Expected
    from gradlab.rows import Evaluation, Row
    from gradlab.store import RunFolder


class Result(NamedTuple):
    """The result of one run."""

    mode: str
    seed: int
    status: str
    verdict: curves.Verdict | None
    steps: int
    updates: int
    first_loss: float | None
    last_loss: float | None
    best_loss: float | None
    seconds: float | None
    cached: bool
    folder: Path
    rows: list[Row]
    error: str = ""
    damaged: Sequence[str] = ()  # one message per damaged line of the log
    compared: Mapping[str, Any] = MappingProxyType({})  # of a user's script: see `store.RunRecord.compared`
    training_set_loss: float | None = None  # at the end, over the training batches; None if unknown
    evaluations: Sequence[Evaluation] = ()

    @property
    def measured(self) -> dict[str, float]:
        """The training set loss, if known, and the values of the last evaluation, by name."""
        known = {} if self.training_set_loss is None else {TRAINING_SET_LOSS: self.training_set_loss}
        return known | (self.evaluations[-1].values if self.evaluations else {})


class Checked(NamedTuple):
    """One expectation of the experiment, checked for one run."""

    mode: str
    seed: int
    key: str
    expected: Any
    got: Any
    ok: bool


class ExperimentResult(NamedTuple):
    """The results of all runs of an experiment, and its checked expectations."""

    experiment: str
    title: str
    folder: Path
    runs: list[Result]
    expectations: list[Checked]

    @property
    def ok(self) -> bool:
        """Whether all runs are done and all expectations hold."""
        return all(run.status == "done" for run in self.runs) and all(each.ok for each in self.expectations)


def result_of(run: RunFolder, *, cached: bool) -> Result:
    """Read the result of a run from its folder."""
    record, logged, evaluations = run.read(), run.rows(), run.evaluations()
    record, fault = run.verified_record(record, logged)
    status, rows = record.status, logged.rows
    summary = curves.summarise(rows)
    return Result(
        mode=record.mode,
        seed=record.seed,
        status=status,
        verdict=summary.verdict if status == "done" or (status == "failed" and record.compared) else None,
        steps=summary.steps,
        updates=summary.updates if status == "done" else rows[-1].update if rows else 0,
        first_loss=summary.first_loss,
        last_loss=summary.last_loss,
        best_loss=summary.best_loss,
        seconds=record.seconds,
        cached=cached,
        folder=run.path,
        rows=rows,
        error=record.error or fault,
        damaged=(*logged.damaged, *evaluations.damaged),
        compared=record.compared,
        training_set_loss=record.training_set_loss if status == "done" else None,
        evaluations=tuple(evaluations.evaluations),
    )


def check_expectations(expect: Mapping[str, Expected], results: list[Result]) -> Iterator[Checked]:
    """Compare the runs with the expectations of their modes."""
    for result in results:
        expected = expect.get(result.mode)
        for key, value in expected.claims().items() if expected else ():
            got, ok = _compared(key, value, result)
            yield Checked(result.mode, result.seed, key, value, got, ok)


def _compared(key: str, value: Any, result: Result) -> tuple[Any, bool]:
    """Return the run's value for the key of an expectation, and whether it is as expected."""
    if key == "epoch_losses":
        decimals = max(_decimals(each) for each in value)
        means = curves.epoch_means(result.rows)[: len(value)]
        return means, [f"{mean:.{decimals}f}" for mean in means] == [f"{want:.{decimals}f}" for want in value]
    if (inequality := inequality_of(value)) is not None:
        measured = result.measured.get(key)
        return measured, measured is not None and inequality(measured)
    loss, _, side = key.rpartition("_")
    if side not in ("below", "above"):
        got = getattr(result, key)
        return got, got == value
    got = getattr(result, loss)
    return got, got is not None and (got < value if side == "below" else got > value)


def _decimals(number: float) -> int:
    """Return the number of decimals in the shortest form of the number, at least 1."""
    exponent = Decimal(repr(number)).as_tuple().exponent
    return max(1, -exponent) if isinstance(exponent, int) else 1
