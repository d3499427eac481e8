"""Groups: the runs of one folder that differ in mode and seed alone, as the record of each says."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab import modes
from gradlab.errors import GradlabError, StoreError
from gradlab.store.files import changed, read_json
from gradlab.store.record_files import now

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from gradlab.store.folders import RunFolder
    from gradlab.store.run_record import RunRecord


class Group(NamedTuple):
    """Runs that differ in mode and seed alone.

    Attributes:
        runs: by mode, in the order of the command that had most of them, then by seed.
        others: how many runs of the same folder are not among them.
    """

    runs: list[RunFolder]
    others: int = 0


class Asked(NamedTuple):
    """A command that found all its runs done: the content of experiment.json.

    It counts as a start of these runs and hides none: without it, the group of the last start is shown.

    Attributes:
        runs: the names of their folders, of thousands the first.
        at: UTC, ISO 8601.
        modes: of the command, in its order.
        match_lr: of the command.
    """

    runs: list[str]
    at: str
    modes: list[str]
    match_lr: bool


class _Run(NamedTuple):
    folder: RunFolder
    began: tuple[str, float]  # when it was started or asked for; within one second, what was written last is later
    record: RunRecord


_BEGAN = attrgetter("began")


def asked_in(file: Path) -> tuple[Asked, float] | None:
    """Return what an experiment.json says and when it was written; None where it is none, or an earlier version's."""
    kinds = {"runs": list, "at": str, "modes": list, "match_lr": bool}
    try:
        content: Any = read_json(file)
        values = {key: content[key] for key in kinds}
    except (StoreError, TypeError, KeyError):
        return None
    if not all(isinstance(values[key], kind) for key, kind in kinds.items()):
        return None
    if (
        not all(isinstance(each, str) for each in values["modes"] + values["runs"]) or values["at"] > now()
    ):  # by a clock that was wrong
        return None
    return Asked(**values), changed(file)


def newest_group(
    folders: Iterable[RunFolder], noted: tuple[Asked, float] | None = None, among: Collection[Path] = ()
) -> Group:
    """Return the group of the run that was started or asked for last.

    Args:
        folders: of all runs that may be of the group.
        noted: which was asked for, and when that was written.
        among: where any are given, the group is that of one of these.

    Raises:
        StoreError: a record cannot be read, so that its run may be of the group or not.
    """
    runs = [_run(folder, noted) for folder in folders]
    newest = max((run for run in runs if not among or run.folder.path in among), key=_BEGAN, default=None)
    if not newest:
        return Group([], len(runs))
    shown = _without_doubles(_alike(runs, newest))
    place = {mode: nth for nth, mode in enumerate(_modes(shown))}
    shown.sort(key=lambda run: (place[run.record.mode], run.record.seed))
    return Group([run.folder for run in shown], len(runs) - len(shown))


def _run(folder: RunFolder, noted: tuple[Asked, float] | None) -> _Run:
    record = folder.read()
    run = _Run(folder, (record.started, changed(folder.record_file)), record)
    if noted:
        asked, written = noted
        if folder.path.name in asked.runs and (asked.at, written) > run.began:
            return _Run(folder, (asked.at, written), replace(record, modes=asked.modes, match_lr=asked.match_lr))
    return run


def _alike(runs: list[_Run], newest: _Run) -> list[_Run]:
    """Return the runs that differ from the newest in mode and seed alone.

    A record of an earlier version does not say whether learning rates were matched; then what more runs share counts.
    """
    matched = newest.record.match_lr
    found = []
    for each in (False, True) if matched is None else (matched,):
        settings = _common(newest.record, matched=each)
        found.append([run for run in runs if _common(run.record, matched=each) == settings])
    return max(found, key=len)


def _common(record: RunRecord, *, matched: bool) -> tuple[dict[str, Any], float | None]:
    """Return the settings that a run shares with its group, and where lrs are matched, the lr before that was done."""
    settings = {key: each for key, each in record.settings.items() if key not in ("mode", "mode_source", "seed")}
    optimizer = settings.get("optimizer")
    if not matched or not isinstance(optimizer, dict):
        return settings, None
    lr = optimizer.get("lr")
    if not isinstance(lr, float) or not math.isfinite(lr):  # edited by hand
        return settings, None
    try:
        share = modes.matched_lr_scale(modes.parse(record.mode))
    except GradlabError:  # a mode without an effective lr, which is matched with no other
        return settings, None
    before = float(f"{lr / share:.9g}")  # of the lr, twelve digits were kept
    return settings | {"optimizer": optimizer | {"lr": None}}, before


def _without_doubles(runs: list[_Run]) -> list[_Run]:
    """Return the newest run of each mode and seed, as folders get copied; of an own mode, those of its last source."""
    found: dict[tuple[str, int], _Run] = {}
    sources: dict[str, object] = {}
    for run in sorted(runs, key=_BEGAN, reverse=True):
        source = run.record.settings.get("mode_source")
        if sources.setdefault(run.record.mode, source) == source:
            found.setdefault((run.record.mode, run.record.seed), run)
    return list(found.values())


def _modes(runs: list[_Run]) -> Iterable[str]:
    """Return the modes as the command with most of them has them, the latest of such; then the others as begun."""
    begun = sorted(runs, key=_BEGAN)
    several = [run.record.modes for run in reversed(begun) if len(run.record.modes) > 1]
    several.sort(key=len, reverse=True)
    return dict.fromkeys([*chain.from_iterable(several), *(run.record.mode for run in begun)])
