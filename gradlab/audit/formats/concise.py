"""One line per finding, as compilers write them: `path:line: severity id message`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit.formats.locations import located, script_location
from gradlab.audit.formats.result import notices_of
from gradlab.errors import printable

if TYPE_CHECKING:
    from gradlab.audit.findings import Severity
    from gradlab.audit.formats.locations import Location
    from gradlab.audit.formats.result import AuditResult


def concise(result: AuditResult) -> str:
    """Return one line per finding, then one per notice."""
    lines = [
        _line(location, each.severity, each.id, f"{each.message}; instead: {each.instead}")
        for each, location, *_ in located(result)
    ]
    script = script_location(result)
    lines += [_line(script, each.severity, each.id, each.text) for each in notices_of(result)]
    return "".join(lines)


def _line(location: Location, severity: Severity, name: str, message: str) -> str:
    at = location.path if location.line is None else f"{location.path}:{location.line}"
    return f"{at}: {severity} {name} {' '.join(printable(message).split())}\n"
