"""Groups: runs of an experiment that are shown together because they differ only in mode and seed."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import modes, store
from gradlab.errors import GradlabError, StoreError, shortened
from gradlab.store import ExperimentFolder, RunFolder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from gradlab.store import LastRequest, RunRecord


class RunGroup(NamedTuple):
    """Runs that differ only in mode and seed.

    Attributes:
        runs: the runs by mode, in the order of the command with most modes, then by seed.
        others: the number of other runs in the same folder.
    """

    runs: list[RunFolder]
    others: int = 0


class _Run(NamedTuple):
    folder: RunFolder
    started: tuple[str, float]  # or last requested; within one second, the time of writing decides
    record: RunRecord


_STARTED = attrgetter("started")
_HINT = "`gradlab list` shows existing ones."


def group_at(path: Path) -> RunGroup:
    """Return the runs at `path`: the folder of a run, an experiment, or several experiments.

    The result is the run, the newest group of the experiment, or that of the newest experiment.

    Raises:
        StoreError: no run was found, or a record in the experiment's folder cannot be read.
    """
    try:
        exists = path.exists()
    except OSError as error:
        raise StoreError(f"{shortened(path)}: {error.strerror}. {_HINT}") from None
    if RunFolder(path).record_file.exists():
        return RunGroup([RunFolder(path)])
    found = newest_group(ExperimentFolder(path))
    if not found.runs and path.is_dir() and (newest := store.experiments(path)):
        found = newest_group(newest[0])
    if not found.runs:
        if path == store.RUNS and (path.is_dir() or not exists):
            raise StoreError("No runs yet. `gradlab run` trains some.")
        name = f"'{shortened(path, 300)}'"
        if path.is_dir():
            raise StoreError(f"No runs in {name}. {_HINT}")
        raise StoreError(f"{name} is not a folder. {_HINT}" if exists else f"No run folder {name}. {_HINT}")
    return found


def newest_group(experiment: ExperimentFolder, among: Collection[RunFolder] = ()) -> RunGroup:
    """Return the group of the run that was started or requested last.

    Args:
        experiment: the folder.
        among: consider only these runs as the last one; empty for all.

    Raises:
        StoreError: a record in the folder cannot be read, so its group is unknown.
    """
    wanted = set(among)
    request, requested_at = experiment.last_request(), store.modified_at(experiment.request_file)
    runs = [_read(folder, request, requested_at) for folder in experiment.runs()]
    newest = max((run for run in runs if not wanted or run.folder in wanted), key=_STARTED, default=None)
    if not newest:
        return RunGroup([], len(runs))
    settings = _shared_settings(newest.record, matched=newest.record.match_lr)
    alike = [run for run in runs if _shared_settings(run.record, matched=newest.record.match_lr) == settings]
    shown = _without_doubles(alike)
    place = {mode: nth for nth, mode in enumerate(_modes_in_order(shown))}
    shown.sort(key=lambda run: (place[run.record.mode], run.record.seed))
    return RunGroup([run.folder for run in shown], len(runs) - len(shown))


def _read(folder: RunFolder, request: LastRequest | None, requested_at: float) -> _Run:
    record = folder.read()
    started = (record.started, store.modified_at(folder.record_file))
    if request and folder.path.name in request.runs and (request.at, requested_at) > started:
        record = replace(record, modes=request.modes, match_lr=request.match_lr)
        return _Run(folder, (request.at, requested_at), record)
    return _Run(folder, started, record)


def _shared_settings(record: RunRecord, *, matched: bool | None) -> dict[str, Any]:
    """Return the settings that a run shares with its group, with the lr before matching if lrs are matched."""
    settings = {key: each for key, each in record.settings.items() if key not in ("mode", "mode_source", "seed")}
    optimizer = settings.get("optimizer")
    if not matched or not isinstance(optimizer, dict):
        return settings
    lr = optimizer.get("lr")
    if not isinstance(lr, float) or not math.isfinite(lr):  # edited by hand
        return settings
    try:
        share = modes.matched_lr_scale(modes.parse(record.mode))
    except GradlabError:  # a mode without an effective lr, which is never matched
        return settings
    before = float(f"{lr / share:.9g}")  # the recorded lr has twelve digits
    return settings | {"optimizer": optimizer | {"lr": ("before it was matched", before)}}


def _without_doubles(runs: list[_Run]) -> list[_Run]:
    """Return the newest run of each mode and seed, since folders get copied.

    Of a user-defined mode, return only runs of its latest source.
    """
    found: dict[tuple[str, int], _Run] = {}
    sources: dict[str, object] = {}
    for run in sorted(runs, key=_STARTED, reverse=True):
        source = run.record.settings.get("mode_source")
        if sources.setdefault(run.record.mode, source) == source:
            found.setdefault((run.record.mode, run.record.seed), run)
    return list(found.values())


def _modes_in_order(runs: list[_Run]) -> Iterable[str]:
    """Return the modes in the order of the latest command with most modes; then the others in order of start."""
    started = sorted(runs, key=_STARTED)
    several = [run.record.modes for run in reversed(started) if len(run.record.modes) > 1]
    several.sort(key=len, reverse=True)
    return dict.fromkeys([*chain.from_iterable(several), *(run.record.mode for run in started)])
