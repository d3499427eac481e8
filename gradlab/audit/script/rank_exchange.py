"""Exchange of records between the ranks of a machine: all leave theirs as files for the one that reports.

The ranks of a machine share a temporary folder. Every rank locks a file in it as long as its process lives, so the
reporting one never waits for a process that has ended. The process group of torch may be gone by then.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradlab.audit.findings import Finding
from gradlab.audit.history.keep import MeasuredKeep
from gradlab.audit.places import Place
from gradlab.audit.ranks import RankRecord, named_ranks
from gradlab.audit.script.process_locks import is_free, lock_until_the_end
from gradlab.audit.script.rank import ALONE, Rank
from gradlab.audit.summary import OptimizerSummary

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradlab.audit.report import Report

PATIENCE = 60.0  # seconds that the reporting rank waits for the records of others
PATIENCE_AFTER_FAILURE = 5.0  # the same, if its own script failed: then others may wait for it
PATIENCE_FOR_ENDS = 10.0  # seconds that it waits for their processes to end before it exits with a finding
POLL = 0.05  # seconds


class Exchange:
    """The records of the ranks of one machine, as files in a folder that the reporting rank removes."""

    def __init__(self, rank: Rank) -> None:
        self.rank = rank
        self._folder = Path(tempfile.gettempdir()) / f"gradlab-audit-{rank.key}"
        self._others = [local for local in range(rank.local_world) if local != rank.local]
        self._alive: list[int] = []  # locked files of processes that may not have ended, as file descriptors
        self._failure: str | None = None
        if rank == ALONE:
            return
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            self._record(rank.local).unlink(missing_ok=True)
            lock_until_the_end(self._locked(rank.local))
        except OSError as error:
            self._failure = f"{self._folder}: {error.strerror}"

    def _record(self, local: int) -> Path:
        return self._folder / f"{local}.json"

    def _locked(self, local: int) -> Path:
        return self._folder / f"{local}.lock"

    def collect(self, report: Report, status: int, stops: Callable[[], bool]) -> bool:
        """Exchange what the ranks found, and return whether this one writes the report, with all of it.

        `status` is that of the rank's own script. `stops` says whether to stop waiting for other ranks.
        """
        if not self.rank.reports:
            self._send(report, status)
        elif self.rank != ALONE:
            self._add_others(report, status, stops)
        return self.rank.reports

    def _send(self, report: Report, status: int) -> None:
        with suppress(OSError):
            new = self._record(self.rank.local).with_suffix(".new")
            new.write_text(json.dumps(_as_data(self.rank.number, report, status)), encoding="utf-8")
            new.replace(self._record(self.rank.local))

    def _add_others(self, report: Report, status: int, stops: Callable[[], bool]) -> None:
        patience = PATIENCE_AFTER_FAILURE if status else PATIENCE
        began = time.monotonic()
        records, ended, pending = self._gather(began + patience, stops)
        missing = {
            "ended without a record, as after a crash": ended,
            self._failure or f"sent no record within {math.ceil(time.monotonic() - began)} s": pending,
        }
        covered, notes = self._coverage({why: of for why, of in missing.items() if of})
        if notes:
            report.history.notes += [f"{covered}, except:", *notes]
        else:
            report.history.information.append(covered)
        report.add_ranks(self.rank.number, records)
        for local in self._others:
            with suppress(OSError):
                self._alive.append(os.open(self._locked(local), os.O_RDWR))
        self.remove()

    def remove(self) -> None:
        """Remove the folder, if this rank reports or has it alone: then the reporting rank may never come."""
        if self.rank == ALONE:
            return
        own = {self._record(self.rank.local), self._locked(self.rank.local)}
        with suppress(OSError):
            if self.rank.reports or own.issuperset(self._folder.iterdir()):
                shutil.rmtree(self._folder, ignore_errors=True)

    def _gather(self, due: float, stops: Callable[[], bool]) -> tuple[list[RankRecord], list[int], list[int]]:
        """Return the records, the ranks that ended without one, and those that neither sent one nor ended."""
        records: list[RankRecord] = []
        ended: list[int] = []
        pending = list(self._others)
        while pending and self._failure is None:
            for local in list(pending):
                has_ended = self._has_ended(local)  # before its record is read: it may end after writing that
                record = self._read(local)
                if record is None and not has_ended:
                    continue
                pending.remove(local)
                if record is None:
                    ended.append(local)
                else:
                    records.append(record)
            if stops() or time.monotonic() > due:
                break
            time.sleep(POLL if pending else 0)
        return records, ended, pending

    def _coverage(self, missing: dict[str, list[int]]) -> tuple[str, list[str]]:
        """Return which ranks the report covers, and why others are missing."""
        base, world = self.rank.number - self.rank.local, self.rank.world
        ours = named_ranks([base + each for each in range(self.rank.local_world)])
        is_all = self.rank.local_world >= world
        covered = "covers all ranks" if is_all else f"covers {ours} of {world}, those of this machine"
        notes = [f"{named_ranks([base + each for each in of])}: {why}" for why, of in missing.items()]
        return covered, notes

    def _read(self, local: int) -> RankRecord | None:
        try:
            return _from_data(json.loads(self._record(local).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def _has_ended(self, local: int) -> bool:
        try:
            file = os.open(self._locked(local), os.O_RDWR)
        except OSError:  # it has not started
            return False
        try:
            return is_free(file)
        finally:
            os.close(file)

    def fail_last(self, reason: str) -> None:
        """Wait until the processes of other ranks have ended: a launcher stops them when this one fails.

        torchrun gets the reason for its own summary.
        """
        if self.rank == ALONE:
            return
        file = os.environ.get("TORCHELASTIC_ERROR_FILE")
        if file and not Path(file).exists():
            about = {"message": reason, "extraInfo": {"py_callstack": reason, "timestamp": str(int(time.time()))}}
            with suppress(OSError):
                Path(file).write_text(json.dumps({"message": about}), encoding="utf-8")
        due = time.monotonic() + PATIENCE_FOR_ENDS
        while time.monotonic() < due and not all(map(is_free, self._alive)):
            time.sleep(POLL)


def _as_data(rank: int, report: Report, status: int) -> dict[str, Any]:
    return {
        "rank": rank,
        "status": status,
        "audited": report.nothing_audited is None,
        "optimizers": [each._asdict() for each in report.optimizers],
        "findings": [each._asdict() for each in report.findings],
        "ignored": [each._asdict() for each in report.ignored],
        "information": report.history.information,
        "limits": report.history.limits(),
        "faults": report.history.faults,
    }


def _from_data(data: dict[str, Any]) -> RankRecord:
    def summary(each: dict[str, Any]) -> OptimizerSummary:
        return OptimizerSummary(**each | {"keep": each["keep"] and MeasuredKeep(*each["keep"])})

    def finding(each: dict[str, Any]) -> Finding:
        return Finding(**each | {"places": tuple(Place(*place) for place in each["places"])})

    return RankRecord(
        data["rank"],
        data["status"],
        data["audited"],
        tuple(map(summary, data["optimizers"])),
        tuple(map(finding, data["findings"])),
        tuple(map(finding, data["ignored"])),
        tuple(data["information"]),
        tuple(data["limits"]),
        tuple(data["faults"]),
    )
