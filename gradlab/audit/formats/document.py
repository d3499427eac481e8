"""The JSON document: the whole report for programs. Users build on its keys, so they only grow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.audit.formats.result import remarks_of

if TYPE_CHECKING:
    from gradlab.audit.formats.result import AuditResult


def document(result: AuditResult) -> dict[str, Any]:
    """Return the report as the document that `audit --json` prints."""
    return {
        "script": result.script,
        "exit_status": result.exit_status,
        "optimizers": [
            {
                "class": each.kind,
                "parameters": each.parameters,
                "updates": each.updates,
                "backwards_per_update": each.backwards_per_update,
                "keep": each.keep and each.keep._asdict(),
                "mode": each.mode,
            }
            for each in result.optimizers
        ],
        "findings": [
            each._asdict() | {"places": [place._asdict() for place in each.places]} for each in result.findings
        ],
        "nothing_audited": result.nothing_audited,
        "remarks": remarks_of(result.history),
    }
