"""The report: a summary of every optimizer, then the findings; as text or as data."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gradlab.audit import findings
from gradlab.audit.formats.document import document
from gradlab.audit.formats.full import report_lines
from gradlab.audit.formats.result import AuditResult
from gradlab.audit.summary import summary_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from gradlab.audit.findings import Finding
    from gradlab.audit.history.history import History
    from gradlab.audit.summary import OptimizerSummary


class Report:
    """Results of an audit; they grow while the script runs."""

    def __init__(self, history: History, chosen: Collection[str] = findings.DEFAULT) -> None:
        self.history = history
        self.chosen = chosen  # ids of rules
        self._folder = ""
        with suppress(OSError):  # the folder may be gone
            self._folder = os.getcwd()  # noqa: PTH109 - the user's folder; a script may change it

    @property
    def optimizers(self) -> list[OptimizerSummary]:
        """Measurements of every optimizer that took a step."""
        return [summary_of(each) for each in self.history.trained()]

    @property
    def findings(self) -> list[Finding]:
        """Mistakes and notes, errors first."""
        return findings.find(self.history, self.chosen)

    @property
    def ok(self) -> bool:
        """Whether the audit found no error and no warning."""
        return all(each.severity == "note" for each in self.findings)

    @property
    def nothing_audited(self) -> str | None:
        """Why nothing was audited; None if an optimizer took a step."""
        if self.history.trained():
            return None
        if self.history.optimizers:
            return "no optimizer took a step"
        return "no optimizer was seen" + (", but there were backward passes" if self.history.backwards else "")

    def result(self, script: str | None = None, exit_status: int = 0, version: str = "") -> AuditResult:
        """Return the report as the value that `formats` write.

        Args:
            script: path or module, as on the command line.
            exit_status: that of the script.
            version: of gradlab.
        """
        shown = self.optimizers, self.findings, self._folder, self.nothing_audited
        return AuditResult(self.history, *shown, script, exit_status, version)

    def lines(self, width: int = 80) -> list[str]:
        """Return the report as text lines of at most `width` columns; equal entries share one."""
        return report_lines(self.result(), width)

    def as_json(self, script: str | None, exit_status: int) -> dict[str, Any]:
        """Return the report as the document that `audit --json` prints."""
        return document(self.result(script, exit_status))

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        """Return the text, so that a notebook shows it."""
        return str(self)
