"""GitLab Code Quality: the findings that GitLab compares between the branches of a merge request.

The format is described in GitLab's documentation, "Code Quality report format".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.audit.formats.locations import located, script_location
from gradlab.audit.formats.result import notices_of
from gradlab.errors import printable

if TYPE_CHECKING:
    from gradlab.audit.findings import Severity
    from gradlab.audit.formats.locations import Location
    from gradlab.audit.formats.result import AuditResult

LEVELS: dict[Severity, str] = {"error": "critical", "warning": "major", "note": "info"}


def gitlab(result: AuditResult) -> list[dict[str, Any]]:
    """Return one entry per finding, then one per notice.

    Without entries, GitLab would show earlier findings as resolved, even if the script failed before it trained.
    """
    entries = [
        _entry(each.severity, each.id, location, each.text, fingerprint)
        for each, location, _, fingerprint in located(result)
    ]
    script = script_location(result)
    entries += [
        _entry(each.severity, each.id, script, each.text, f"{each.id} {script.path}") for each in notices_of(result)
    ]
    return entries


def _entry(severity: Severity, name: str, location: Location, text: str, fingerprint: str) -> dict[str, Any]:
    return {
        "description": printable(text),
        "check_name": name,
        "fingerprint": fingerprint,
        "severity": LEVELS[severity],
        "location": {"path": location.path, "lines": {"begin": location.line or 1}},
    }
