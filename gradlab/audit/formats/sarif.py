"""SARIF 2.1.0, the OASIS standard that code scanning, editors and viewers read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradlab.audit.findings import ORDER
from gradlab.audit.formats.locations import located, repository_of, script_location
from gradlab.audit.formats.result import HARMLESS, notices_of
from gradlab.audit.rule_pages import page
from gradlab.errors import printable

if TYPE_CHECKING:
    from gradlab.audit.findings import Severity
    from gradlab.audit.formats.locations import LocatedFinding, Location
    from gradlab.audit.formats.result import AuditResult
    from gradlab.audit.rule_pages import RulePage

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
ROOT = "SRCROOT"  # the id of the repository's folder
FINGERPRINT = "findingHash/v1"


def sarif(result: AuditResult) -> dict[str, Any]:
    """Return a log with one run.

    Args:
        result: of the audit.
    """
    found = located(result)
    severities: dict[str, Severity] = {}  # the worst of each rule
    for each in found:
        name, severity = each.finding.id, each.finding.severity
        severities[name] = min(severity, severities.get(name, severity), key=ORDER.__getitem__)
    rules = list(severities)
    driver: dict[str, Any] = {"name": "gradlab"}
    if result.version:
        driver["version"] = result.version
    driver["rules"] = [_rule(name, severities[name], page(name)) for name in rules]
    run: dict[str, Any] = {"tool": {"driver": driver}, "invocations": [_invocation(result)]}
    if root := repository_of(result.folder):
        run["originalUriBaseIds"] = {ROOT: {"uri": Path(root).as_uri().rstrip("/") + "/"}}
    run["results"] = [_result(each, rules.index(each.finding.id)) for each in found]
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(name: str, severity: Severity, text: RulePage) -> dict[str, Any]:
    return {
        "id": name,
        "name": "".join(word.capitalize() for word in name.split("-")),  # by convention
        "shortDescription": _message(text.summary),
        "fullDescription": _message(text.summary),  # GitHub requires it
        "help": {"text": printable(text.markdown), "markdown": printable(text.markdown)},
        "defaultConfiguration": {"level": severity},
    }


def _result(each: LocatedFinding, rule: int) -> dict[str, Any]:
    return {
        "ruleId": each.finding.id,
        "ruleIndex": rule,
        "level": each.finding.severity,
        "message": _message(each.finding.text),
        "locations": [_location(each.location)],
        "relatedLocations": [
            {"id": nth, **_location(other), "message": _message("also this line")}
            for nth, other in enumerate(each.others, 1)
        ],
        "partialFingerprints": {FINGERPRINT: each.fingerprint},
        "properties": {"sinceUpdate": each.finding.since_update},
    }


def _location(location: Location) -> dict[str, Any]:
    if not location.file:
        line = "" if location.line is None else f", line {location.line}"
        return {"logicalLocations": [{"name": f"{location.path}{line}"}]}
    artifact = {"uri": location.uri} | ({"uriBaseId": ROOT} if location.is_inside else {})
    region = {} if location.line is None else {"region": {"startLine": location.line}}
    return {"physicalLocation": {"artifactLocation": artifact, **region}}


def _invocation(result: AuditResult) -> dict[str, Any]:
    """Return how the script ended, and what limits the findings."""
    notices, script = notices_of(result), script_location(result)
    return {
        "executionSuccessful": all(each.id in HARMLESS for each in notices),
        "exitCode": result.exit_status,
        "exitCodeDescription": "exit status of the script",
        "toolExecutionNotifications": [
            {
                "descriptor": {"id": each.id},
                "level": each.severity,
                "message": _message(each.text),
                "locations": [_location(script)],
            }
            for each in notices
        ],
    }


def _message(text: str) -> dict[str, str]:
    return {"text": printable(text)}
