"""Trains a cell, as one stack or sequentially by the plain loop, and returns the results."""

from __future__ import annotations

import os
from array import array
from typing import TYPE_CHECKING, Any, TypeVar

from gradlab import runs
from gradlab.analysis import curves
from gradlab.engines import ensemble, loop
from gradlab.engines.ensemble import CannotStackError
from gradlab.errors import GradlabError, shortened
from gradlab.store import Block
from gradlab.sweeps import stacked
from gradlab.sweeps.cells import load_cell
from gradlab.sweeps.measuring import Measured, Measuring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradlab.analysis.curves import Summary
    from gradlab.rows import Row
    from gradlab.sweeps.cells import Cell, LoadedCell

    OnProgress = Callable[[int, float], object]

T = TypeVar("T")


def train_cell(cell: Cell, on_progress: OnProgress = lambda *_: None) -> Block:
    """Train the runs of a cell and return their results.

    If the task raises, only that run fails.

    Args:
        cell: the cell.
        on_progress: called after each step with the steps of all runs so far and the finished fraction of the cell.
            An exception from it ends the training.

    Raises:
        GradlabError: an error that the user can fix, in the task, optimizer or mode.
    """
    process = os.getpid()
    try:
        return _trained(cell, on_progress)
    finally:
        if os.getpid() != process:  # a child forked by the task returned here: the runs belong to its parent
            os._exit(1)


def _trained(cell: Cell, on_progress: OnProgress) -> Block:
    import torch

    loaded = load_cell(cell)
    torch.set_num_threads(loaded.experiment.threads)  # results depend on it, so it is part of the settings
    why = ""
    if cell.grid.engine == "ensemble":
        try:
            return _block("ensemble", cell, *_train_stacked(loaded, on_progress), [""] * len(cell.runs))
        except _UserCodeError as raised:  # a failing run, or a cell that cannot be stacked
            why = raised.why_not_stacked()
    return _block("loop", cell, *_train_in_turn(loaded, on_progress), why)


def _train_stacked(cell: LoadedCell, on_progress: OnProgress) -> tuple[list[Summary], list[Measured]]:
    """Train all runs of the cell as one stack; return summaries and what else was measured."""
    count = len(cell.seeds)
    losses: list[Sequence[float]] = []
    items: list[Sequence[float]] = []
    epochs: list[int] = []
    updates = 0
    measured: list[Measured] = []
    for step, total in _guarded(_stacked_steps(cell, measured)):
        losses.append(array("d", step.losses))
        items += [array("d", step.items)] if step.items else []
        epochs.append(step.epoch)
        updates = step.update + 1
        on_progress(count * len(losses), len(losses) / total if total else 0.0)
    ends = curves.ends_of(epochs)
    of_runs = zip(*losses, strict=True) if losses else ((),) * count
    items_of_runs = zip(*items, strict=True) if items else (None,) * count
    summaries = [
        curves.summarise_losses(curves.Losses(values, ends, counts), updates)
        for values, counts in zip(of_runs, items_of_runs, strict=True)
    ]
    return summaries, measured


def _stacked_steps(cell: LoadedCell, measured: list[Measured]) -> Iterator[tuple[Any, int | None]]:
    """Yield the steps of the stack, each with the total number of steps; at the end, append what was measured."""
    experiment = cell.experiment
    total = experiment.steps or runs.steps_of(cell.build(cell.seeds[0]), experiment)
    training = stacked.training_of(cell)
    measuring = Measuring(experiment, training.seeds[0].original, training)
    ends = {"epochs": experiment.epochs, "steps": experiment.steps}
    for step in ensemble.train(training, **ends, clip_norm=experiment.clip_norm):
        yield step, total
    measured.append(measuring.finished())


def _train_in_turn(cell: LoadedCell, on_progress: OnProgress) -> tuple[list[Summary], list[Measured], list[str]]:
    """Train the runs sequentially; return a summary of each, what was measured, and its error, "" if none."""
    summaries: list[Summary] = []
    measured: list[Measured] = []
    errors: list[str] = []
    steps, count = 0, len(cell.seeds)
    for nth in range(count):
        rows: list[Row] = []
        error = ""
        try:
            for row, total in _guarded(_rows(cell, nth, measured)):
                rows.append(row)
                steps += 1
                on_progress(steps, (nth + (len(rows) / total if total else 0.0)) / count)
        except _UserCodeError as raised:
            on_progress(steps, nth / count)  # raises if a stop was requested: its signal may have caused the error
            error = runs.failure(raised.error, cell.experiments[nth])
            measured.append(Measured([{}], (0, 0)))
        summaries.append(curves.summarise(rows))
        errors.append(error)
    return summaries, measured, errors


def _rows(cell: LoadedCell, nth: int, measured: list[Measured]) -> Iterator[tuple[Row, int | None]]:
    """Yield the rows of a run, each with the total number of steps; at the end, append what was measured."""
    experiment, mode = cell.experiments[nth], cell.modes[nth]
    task = cell.build(cell.seeds[nth])
    optimizer, scheduler = runs.optimizer_of(experiment, mode, task)
    total = runs.steps_of(task, experiment)
    measuring = Measuring(experiment, task)
    for row in loop.train(
        task,
        mode,
        optimizer,
        epochs=experiment.epochs,
        steps=experiment.steps,
        clip_norm=experiment.clip_norm,
        scheduler=scheduler,
        cursor=measuring.cursor,
        scheduler_every=experiment.schedule_every,
    ):
        yield row, total
    measured.append(measuring.finished())


class _UserCodeError(Exception):
    """An error raised by the user's task. It ends a run, while an error from `on_progress` ends the cell."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def why_not_stacked(self) -> str:
        """Return why the runs of a cell cannot be stacked."""
        stacks = not isinstance(self.error, CannotStackError)
        return f"its task raises {type(self.error).__name__}" if stacks else shortened(self.error, 150)


def _guarded(steps: Iterator[T]) -> Iterator[T]:
    """Yield the steps of a training.

    Raises:
        _UserCodeError: the task raised an error.
        GradlabError: an error that the user can fix.
    """
    while True:
        try:
            step = next(steps)
        except StopIteration:
            return
        except GradlabError:
            raise
        except (Exception, SystemExit, GeneratorExit) as error:
            raise _UserCodeError(error) from None
        yield step


def _block(
    engine: str,
    cell: Cell,
    summaries: Sequence[Summary],
    measured: Sequence[Measured],
    errors: list[str],
    why: str = "",
) -> Block:
    columns = [values for each in measured for values in each.columns]
    names = dict.fromkeys(name for values in columns for name in values)
    used, of = min((each.batches for each in measured if each.columns[0]), key=_share, default=(1, 1))
    return Block(
        engine=engine,
        run=[run.number for run in cell.runs],
        status=["failed" if error else "done" for error in errors],
        verdict=[None if error else each.verdict for each, error in zip(summaries, errors, strict=True)],
        steps=[each.steps for each in summaries],
        first_loss=[each.first_loss for each in summaries],
        last_loss=[each.last_loss for each in summaries],
        best_loss=[each.best_loss for each in summaries],
        error=errors,
        why=why,
        measured={name: [values.get(name) for values in columns] for name in names},
        training_set_batches=[used, of] if used < of else [],
    )


def _share(batches: tuple[int, int]) -> float:
    used, of = batches
    return used / of
