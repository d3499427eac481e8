"""Checkpoints of runs: finding those that a run can resume from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab import store
from gradlab.engines.resuming import CannotResumeError, Checkpoint
from gradlab.errors import DamagedError, StoreError, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gradlab.runs.plan import RunPlan
    from gradlab.store import EvaluationLog, RowLog, RunRecord


def resumable_checkpoints(plan: RunPlan, record: RunRecord, notify: Callable[[str], object]) -> Iterator[Checkpoint]:
    """Yield the checkpoints that the run can resume from, newest first, and report the unusable ones.

    Raises:
        StoreError: a checkpoint cannot be read at the moment. It may be readable later, so it is not skipped.
    """
    files = [] if plan.fresh else plan.folder.checkpoints()
    whole_rows = plan.folder.whole_rows() if files else 0
    for file in files:
        try:
            checkpoint = Checkpoint.from_bytes(store.load_checkpoint(file))
            _check_fits(checkpoint, record, whole_rows)
        except (DamagedError, CannotResumeError) as error:
            notify(f"cannot resume from {file.name}: {error}")
        except (MemoryError, OSError) as error:
            raise StoreError(f"{file} cannot be read: {shortened(repr(error), 100)}") from None
        else:
            yield checkpoint


def _check_fits(checkpoint: Checkpoint, record: RunRecord, whole_rows: int) -> None:
    """Raise CannotResumeError if the checkpoint belongs to another run or version, or if the log lost rows."""
    if checkpoint.identity != record.identity:
        raise CannotResumeError("it belongs to another run")
    if checkpoint.versions != record.versions:
        versions = ", ".join(f"{name} {version}" for name, version in checkpoint.versions.items())
        raise CannotResumeError(f"it was written with {versions}; rows depend on these versions")
    if checkpoint.step > whole_rows:
        raise CannotResumeError(f"it needs {checkpoint.step} rows, but the log has {whole_rows}")


def check_rows(log: RowLog, checkpoint: Checkpoint) -> None:
    """Raise CannotResumeError if the rows before the checkpoint differ from those that were logged."""
    if checkpoint.rows_sha256 != log.sha256:
        raise CannotResumeError("the rows before it differ from those that were logged")


def check_evaluations(log: EvaluationLog, checkpoint: Checkpoint) -> None:
    """Raise CannotResumeError if the evaluations before the checkpoint differ from those that were logged."""
    if checkpoint.evaluations_sha256 != log.sha256:
        raise CannotResumeError("the evaluations before it differ from those that were logged")
