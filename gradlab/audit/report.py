"""The report: a summary of every optimizer, then the findings; as text or as data."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gradlab.audit import findings
from gradlab.audit.choice.ignoring import apply_comments, without_used
from gradlab.audit.choice.rules import DEFAULT, switched_off
from gradlab.audit.formats.document import document
from gradlab.audit.formats.full import report_lines
from gradlab.audit.formats.result import AuditResult
from gradlab.audit.ranks import information_on, limits_on, merged_findings, merged_optimizers
from gradlab.audit.summary import summary_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from gradlab.audit.choice.ignoring import AppliedComments
    from gradlab.audit.findings import Finding
    from gradlab.audit.history.history import History
    from gradlab.audit.ranks import RankRecord
    from gradlab.audit.summary import OptimizerSummary

WITHOUT_STEP = (
    "Perhaps the script only evaluates, updates its weights by hand, or trains in another process, "
    "which the audit does not watch"
)


class Report:
    """Results of an audit; they grow while the script runs."""

    def __init__(
        self, history: History, chosen: Collection[str] = DEFAULT, end_watch: Callable[[], None] | None = None
    ) -> None:
        self.history = history
        self.chosen = chosen  # ids of rules
        self._end_watch = end_watch
        self.checked = False  # whether `check` was called
        self.rank = 0
        self.other_ranks: tuple[RankRecord, ...] = ()  # of a distributed training
        self._folder = ""
        with suppress(OSError):  # the folder may be gone
            self._folder = os.getcwd()  # noqa: PTH109 - the user's folder; a script may change it

    @property
    def optimizers(self) -> list[OptimizerSummary]:
        """Measurements of every optimizer that took a step."""
        own = [summary_of(each) for each in self.history.trained()]
        return merged_optimizers(self.rank, own, self.other_ranks)

    @property
    def findings(self) -> list[Finding]:
        """Mistakes and notes, errors first, without those that a comment in the script ignores."""
        others = {each.rank: each.findings for each in self.other_ranks}
        merged = merged_findings(self.rank, self._found().kept, others)
        return without_used(merged, self.ignored) if others else merged

    @property
    def ignored(self) -> list[Finding]:
        """Mistakes and notes that a comment in the script ignores."""
        return merged_findings(
            self.rank, self._found().ignored, {each.rank: each.ignored for each in self.other_ranks}
        )

    def _found(self) -> AppliedComments:
        return apply_comments(findings.find(self.history, self.chosen), self.history, self.chosen)

    @property
    def ok(self) -> bool:
        """Whether the audit found no error and no warning."""
        return all(each.severity == "note" for each in self.findings)

    @property
    def audited(self) -> bool:
        """Whether rules could be checked: an optimizer took a step, and no two threads trained at the same time."""
        return self.nothing_audited is None and not self.history.threads_at_once

    @property
    def nothing_audited(self) -> str | None:
        """Why nothing was audited; None if an optimizer took a step."""
        if self.history.updates or self.history.threads_at_once or any(each.audited for each in self.other_ranks):
            return None
        seen = "no optimizer took a step" if self.history.optimizers else "no optimizer was seen"
        passes = ", but there were backward passes" if self.history.backwards and not self.history.optimizers else ""
        return f"{seen}{passes}. {WITHOUT_STEP}"

    def add_ranks(self, rank: int, others: Sequence[RankRecord]) -> None:
        """Add what other ranks of a distributed training found; `rank` is the number of this one."""
        self.rank, self.other_ranks = rank, tuple(sorted(others))
        self.history.information += information_on(self.history.information, self.other_ranks)
        self.history.notes += limits_on(self.history.limits(), self.other_ranks)
        self.history.faults += [f"rank {each.rank}: {fault}" for each in self.other_ranks for fault in each.faults]

    def result(self, script: str | None = None, exit_status: int = 0, version: str = "") -> AuditResult:
        """Return the report as the value that `formats` write.

        Args:
            script: path or module, as on the command line.
            exit_status: that of the script.
            version: of gradlab.
        """
        shown = self.optimizers, self.findings, self._folder, self.nothing_audited
        return AuditResult(self.history, *shown, script, exit_status, version, self.ignored, switched_off(self.chosen))

    def lines(self, width: int = 80, exit_status: int = 0) -> list[str]:
        """Return the report as text lines of at most `width` columns; equal entries share one.

        `exit_status` is that of the script.
        """
        return report_lines(self.result(exit_status=exit_status), width)

    def check(self) -> None:
        """End the watch, and fail a test if it found an error or a warning, or if nothing was audited.

        Raises:
            AssertionError: the whole report.
        """
        __tracebackhide__ = True  # of pytest: the failing line is the caller's
        self.checked = True
        if self._end_watch:
            self._end_watch()
        if not self.audited or not self.ok:
            raise AssertionError(str(self))

    def as_json(self, script: str | None, exit_status: int) -> dict[str, Any]:
        """Return the report as the document that `audit --json` prints."""
        return document(self.result(script, exit_status))

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        """Return the text, so that a notebook shows it."""
        return str(self)
