"""The result of an audit: what every format shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradlab.audit.choice.rules import UNUSED_IGNORE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradlab.audit.findings import Finding, Severity
    from gradlab.audit.history.history import History
    from gradlab.audit.summary import OptimizerSummary

NO_VERDICT, LIMITED, SCOPE = "no-verdict", "audit-limited", "audit-scope"
HARMLESS = {LIMITED, SCOPE}  # notices of an audit that gives a verdict


class AuditResult(NamedTuple):
    """The result of an audit."""

    history: History
    optimizers: list[OptimizerSummary]
    findings: list[Finding]
    folder: str  # in which the script was started; "" if unknown
    nothing_audited: str | None = None  # why; None if an optimizer took a step
    script: str | None = None  # as on the command line: a path, or the name of a module
    exit_status: int = 0  # the script's own
    version: str = ""  # of gradlab
    ignored: Sequence[Finding] = ()  # by comments in the script
    switched_off: Sequence[str] = ()  # ids of default rules that were not checked


class Notice(NamedTuple):
    """Something that limits what the findings say."""

    id: str  # kebab case
    severity: Severity
    text: str  # a sentence


def head_of(found: Finding) -> str:
    """Return the first words on a finding: "error never-cleared, since update 2". A comment has no update."""
    since = "" if found.id == UNUSED_IGNORE else f", since update {found.since_update}"
    return f"{found.severity} {found.id}{since}"


def failure_of(result: AuditResult) -> str:
    """Return the sentence on a script whose own exit status is not 0."""
    when = " before any optimizer took a step" if result.nothing_audited else "; findings cover what came before"
    return f"the script ended with exit status {result.exit_status}{when}"


def notices_of(result: AuditResult) -> list[Notice]:
    """Return what limits the result: a script that failed, nothing audited, limits and failures of the audit.

    A note says what the audit covers.
    """
    notices, history = [], result.history
    if result.exit_status:
        notices.append(Notice("script-failed", "error", failure_of(result)))
    elif result.nothing_audited:
        notices.append(Notice("nothing-audited", "warning", f"nothing was audited: {result.nothing_audited}"))
    if history.information:
        notices.append(Notice(SCOPE, "note", "; ".join(history.information)))
    if limits := history.limits():
        notices.append(Notice(NO_VERDICT if history.threads_at_once else LIMITED, "warning", "; ".join(limits)))
    notices += [Notice("audit-failed", "error", each) for each in _failure_of(history)]
    return notices


def remarks_of(history: History) -> list[str]:
    """Return all remarks on the audit itself, and its first failure."""
    return [*history.remarks(), *_failure_of(history)]


def _failure_of(history: History) -> list[str]:
    return [f"the audit itself failed; first failure: {each}" for each in history.faults[:1]]
