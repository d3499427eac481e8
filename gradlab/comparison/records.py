"""Records of a script's runs: what run.json says of one that has ended, and which of them are reused."""

from __future__ import annotations

import hashlib
import platform
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import __version__, store
from gradlab.analysis.results import Result, result_of
from gradlab.errors import StoreError, printable
from gradlab.experiment import identity
from gradlab.store import RunRecord

if TYPE_CHECKING:
    from gradlab.comparison.job import ScriptOutcome
    from gradlab.comparison.request import CompareRequest, ScriptPlan
    from gradlab.comparison.running import ScriptEnd

APPROXIMATE = 0.9  # from this share of updates on, a mode was imposed approximately
_REASONS = 2  # that are named, the most frequent ones


class ComparedRun(NamedTuple):
    """A run of the script: its plan, record and result."""

    plan: ScriptPlan
    record: RunRecord
    result: Result

    @property
    def losses(self) -> list[float]:
        """The loss of every backward pass."""
        return [row.loss for row in self.result.rows]


def read_run(plan: ScriptPlan, *, cached: bool) -> ComparedRun:
    """Read a run from its folder."""
    return ComparedRun(plan, plan.folder.read(), result_of(plan.folder, cached=cached))


def updates_of(run: ComparedRun) -> int:
    """Return the number of optimizer steps; at least, if the process was killed."""
    reported = int(run.record.compared.get("updates", 0))
    return max(reported, run.result.rows[-1].update if run.result.rows else 0)


def new_record(request: CompareRequest, plan: ScriptPlan) -> RunRecord:
    """Return the record of a run that starts."""
    return RunRecord(
        experiment=request.script.stem,
        title=printable(request.title),
        mode=plan.name,
        seed=plan.seed,
        identity=identity(plan.settings),
        settings=plan.settings,
        status="running",
        started=store.now(),
        versions=installed_versions(),
        quadratic={},
        modes=request.mode_names,
        match_lr=False,
        compared={"imposed": "no", "imposed_share": 0.0, "imposed_reason": "the run has not ended"},
    )


def ended_record(plan: ScriptPlan, started: RunRecord, end: ScriptEnd) -> RunRecord:
    """Return the record of a run that has ended."""
    outcome, error = end.outcome, end.error
    return replace(
        started,
        status="failed" if error else "done",
        error=error,
        weights=outcome.weights,
        seconds=outcome.seconds or end.seconds,
        rows=None if error else outcome.rows,
        rows_sha256="" if error else outcome.rows_sha256,
        compared={
            **imposed(plan, outcome),
            **(_measured(outcome) if plan.mode is None else {}),
            "updates": outcome.updates,
            "ended": outcome.ended,
            "last_line": end.last_line,
            "sources": outcome.sources,
        },
    )


def imposed(plan: ScriptPlan, outcome: ScriptOutcome) -> dict[str, Any]:
    """Return whether the mode was imposed (yes, approximate or no), at which share of the updates, and why not."""
    if plan.mode is None:
        return {"imposed": "yes", "imposed_share": 1.0, "imposed_reason": ""}
    judged = outcome.good + sum(outcome.faults.values())
    if not judged:
        only = plan.settings["only_optimizer"]
        why = "no optimizer took a step" if only is None else f"optimizer {only} does not exist or took no step"
        return {"imposed": "no", "imposed_share": 0.0, "imposed_reason": why}
    share = outcome.good / judged
    how = "yes" if share == 1 and not outcome.doubts else "approximate" if share >= APPROXIMATE else "no"
    reasons = sorted(outcome.faults, key=lambda why: -outcome.faults[why])[:_REASONS]
    reasons += outcome.doubts + outcome.remarks
    return {"imposed": how, "imposed_share": share, "imposed_reason": "; ".join(reasons)}


def _measured(outcome: ScriptOutcome) -> dict[str, Any]:
    """Return the mode and keep that the script was measured to have: None where its optimizers differ."""
    first, *others = outcome.optimizers or [{}]
    alike = {
        key: first.get(key) if all(each[key] == first[key] for each in others) else None for key in ("mode", "keep")
    }
    return {"measured": alike, "optimizers": outcome.optimizers}


def is_finished(request: CompareRequest, plan: ScriptPlan) -> bool:
    """Say whether the plan's run is done with these versions and the same files of the script's folder.

    Raises:
        StoreError: another process is writing it.
    """
    try:
        record = plan.folder.read()
    except StoreError:
        return False
    if record.status == "running":
        raise plan.folder.being_written()
    record, _ = plan.folder.verified_record(record)
    if request.fresh or record.status != "done" or record.versions != installed_versions():
        return False
    return _same_sources(request, record.compared.get("sources"))


def installed_versions() -> dict[str, str]:
    """Return the versions that the rows of a run depend on, without importing torch."""
    versions = {"gradlab": __version__, "python": platform.python_version()}
    with suppress(metadata.PackageNotFoundError):
        versions["torch"] = metadata.version("torch")
    return versions


def _same_sources(request: CompareRequest, sources: object) -> bool:
    if not isinstance(sources, dict):
        return False
    for name, digest in sources.items():
        with suppress(OSError):
            if hashlib.sha256((request.script.folder / name).read_bytes()).hexdigest() == digest:
                continue
        return False
    return True
