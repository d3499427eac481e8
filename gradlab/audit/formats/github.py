"""GitHub annotations: workflow commands, which GitHub reads from the log and shows at the lines of a pull request.

The commands are described in GitHub's documentation, "Workflow commands for GitHub Actions".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.formats.locations import located, script_location
from gradlab.audit.formats.result import notices_of
from gradlab.errors import printable

if TYPE_CHECKING:
    from gradlab.audit.findings import Severity
    from gradlab.audit.formats.locations import Location
    from gradlab.audit.formats.result import AuditResult

LEVELS: dict[Severity, str] = {"error": "error", "warning": "warning", "note": "notice"}


def github(result: AuditResult) -> str:
    """Return one workflow command per finding, then one per notice."""
    lines = []
    for each, location, others, _ in located(result):
        also = [f"also at {other.path}:{other.line}" for other in others]
        text = "\n".join([each.message, f"instead: {each.instead}", *also])
        lines.append(_command(each.severity, each.id, location, text))
    script = script_location(result)
    lines += [_command(each.severity, each.id, script, each.text) for each in notices_of(result)]
    return "".join(lines)


def _command(severity: Severity, name: str, location: Location, text: str) -> str:
    named = {"file": location.path} if location.file else {}
    if location.line is not None:
        named |= {"line": str(location.line)}
    if not location.file:
        text = f"{location.path}: {text}"
    properties = ",".join(f"{key}={_property(value)}" for key, value in (named | {"title": f"gradlab {name}"}).items())
    return f"::{LEVELS[severity]} {properties}::{_data(text)}\n"


def _data(text: str) -> str:
    """Return the text of a command, which must be one line."""
    return printable(text).replace("%", "%25").replace("\n", "%0A")


def _property(text: str) -> str:
    """Return the value of a property, in which colons and commas also have a meaning."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
