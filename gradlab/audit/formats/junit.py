"""JUnit XML, which CI servers show as tests: one that fails per finding."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from gradlab.audit.formats.locations import located, script_location
from gradlab.audit.formats.result import HARMLESS, head_of, notices_of
from gradlab.audit.rule_pages import page
from gradlab.errors import printable

if TYPE_CHECKING:
    from gradlab.audit.formats.locations import LocatedFinding, Location
    from gradlab.audit.formats.result import AuditResult, Notice
    from gradlab.audit.rule_pages import RulePage

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'
NOT_XML = re.compile("[\ufffe\uffff]")  # control characters are gone by then
KINDS = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}  # to count


def junit(result: AuditResult) -> str:
    """Return a document with one suite.

    A test fails for each error or warning, and passes for each note. What limits the findings is a test with an
    error. Without any of these, a single test passes. Non-ASCII characters are references, so any encoding is right.

    Args:
        result: of the audit.
    """
    suites = ET.Element("testsuites")
    suite = ET.SubElement(suites, "testsuite", name="gradlab audit")
    script, times = script_location(result), Counter[tuple[str, str]]()
    for each in located(result):
        times[each.finding.id, each.location.path] += 1
        nth = times[each.finding.id, each.location.path]
        name = each.finding.id if nth == 1 else f"{each.finding.id} {nth}"
        _add_finding(_case(suite, name, each.location), each, page(each.finding.id))
    for notice in notices_of(result):
        _add_notice(suite, notice, script)
    if not suite.findall("testcase"):
        _case(suite, "nothing found", script)
    for key, kind in KINDS.items():
        number = str(len(list(suite.iter(kind))))
        suite.set(key, number)
        suites.set(key, number)
    ET.indent(suites)
    text: str = ET.tostring(suites, encoding="us-ascii").decode()
    return f"{HEAD}{text}\n"


def _case(suite: ET.Element, name: str, location: Location) -> ET.Element:
    case = ET.SubElement(suite, "testcase", classname=_clean(location.path), name=name, time="0")
    if location.file:
        case.set("file", _clean(location.path))
    if location.line is not None:
        case.set("line", str(location.line))
    return case


def _add_finding(case: ET.Element, each: LocatedFinding, text: RulePage) -> None:
    found = each.finding
    at = ", ".join(f"{place.path}:{place.line}" for place in (each.location, *each.others) if place.line is not None)
    lines = [head_of(found) + (f", at {at}" if at else "")]
    lines += [found.message, f"instead: {found.instead}", text.summary]
    if found.severity == "note":
        ET.SubElement(case, "system-out").text = _clean("\n".join(lines))
        return
    failure = ET.SubElement(case, "failure", type=found.severity, message=_clean(found.message))
    failure.text = _clean("\n".join(lines))


def _add_notice(suite: ET.Element, notice: Notice, script: Location) -> None:
    case = _case(suite, notice.id, script)
    if notice.id in HARMLESS:
        ET.SubElement(case, "system-out").text = _clean(notice.text)
        return
    error = ET.SubElement(case, "error", type=notice.id, message=_clean(notice.text))
    error.text = _clean(notice.text)


def _clean(text: str) -> str:
    """Return the text without characters that XML does not allow."""
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", printable(text))
