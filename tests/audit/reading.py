"""Readers of the audit's formats: each checks a document against its schema and returns what it shows."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import xmlschema
from jsonschema import Draft7Validator
from sarif_kit.validate import assert_valid

SCHEMAS = Path(__file__).parent / "schemas"


class Shown(NamedTuple):
    """A finding, or a notice, as a reader of the format sees it."""

    path: str
    line: int | None
    severity: str
    id: str


class Command(NamedTuple):
    """A workflow command of GitHub."""

    name: str
    properties: dict[str, str]
    message: str


def command_in(line: str) -> Command:
    """Return the command in a line of a log, by the rules of GitHub's runner."""
    assert line.startswith("::")
    head, found, data = line[2:].partition("::")
    assert found
    name, _, pairs = head.partition(" ")
    properties = dict(pair.split("=", 1) for pair in pairs.split(",") if pair)
    return Command(name, {key: unescaped(value, ":,") for key, value in properties.items()}, unescaped(data))


def unescaped(text: str, more: str = "") -> str:
    for char in f"\r\n{more}%":  # the percent sign last, as the runner does
        text = text.replace(f"%{ord(char):02X}", char)
    return text


def concise(text: str) -> list[Shown]:
    shown = []
    for line in lines_of(text):
        found = re.fullmatch(r"(.+?)(?::(\d+))?: (error|warning|note) ([a-z-]+) (.+)", line)
        assert found, line
        shown.append(Shown(found[1], int(found[2]) if found[2] else None, found[3], found[4]))
    return shown


def github(text: str) -> list[Shown]:
    severities = {"error": "error", "warning": "warning", "notice": "note"}
    shown = []
    for command in map(command_in, lines_of(text)):
        line = command.properties.get("line")
        path = command.properties.get("file") or command.message.partition(": ")[0]
        title = command.properties["title"].removeprefix("gradlab ")
        shown.append(Shown(path, int(line) if line else None, severities[command.name], title))
    return shown


def gitlab(text: str) -> list[Shown]:
    entries: list[dict[str, Any]] = json.loads(text)
    Draft7Validator(json.loads((SCHEMAS / "gitlab-code-quality.json").read_text())).validate(entries)
    severities = {"critical": "error", "major": "warning", "info": "note"}
    assert len({each["fingerprint"] for each in entries}) == len(entries)
    return [
        Shown(each["location"]["path"], each["location"]["lines"]["begin"], severities[each["severity"]],
              each["check_name"])
        for each in entries
    ]  # fmt: skip


def sarif(text: str) -> list[Shown]:
    log = json.loads(text)
    assert_valid(log)
    (run,) = log["runs"]
    shown = []
    for each in run["results"]:
        assert run["tool"]["driver"]["rules"][each["ruleIndex"]]["id"] == each["ruleId"]
        shown.append(Shown(*sarif_place(each), each["level"], each["ruleId"]))
    (invocation,) = run["invocations"]
    notices = invocation["toolExecutionNotifications"]
    return shown + [Shown(*sarif_place(each), each["level"], each["descriptor"]["id"]) for each in notices]


def sarif_place(each: dict[str, Any]) -> tuple[str, int | None]:
    (location,) = each["locations"]
    if "physicalLocation" not in location:
        (logical,) = location["logicalLocations"]
        return logical["name"], None
    physical = location["physicalLocation"]
    artifact = physical["artifactLocation"]
    assert artifact["uri"].isascii()
    assert ("uriBaseId" in artifact) == (":" not in artifact["uri"].partition("/")[0])
    path = unquote(artifact["uri"].removeprefix("file://"), errors="replace")
    return path, physical.get("region", {}).get("startLine")


@lru_cache(maxsize=1)
def junit_schema() -> Any:
    return xmlschema.XMLSchema(str(SCHEMAS / "junit.xsd"))


def junit(text: str) -> list[Shown]:
    junit_schema().validate(text)
    suites = ET.fromstring(text)  # noqa: S314 - ours
    (suite,) = suites
    cases = list(suite)
    for key, kind in {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}.items():
        assert suites.get(key) == suite.get(key) == str(len(list(suite.iter(kind))))
    assert len({(each.get("classname"), each.get("name")) for each in cases}) == len(cases)
    shown = []
    for case in cases:
        severity = "note" if not len(case) or case[0].tag == "system-out" else case[0].get("type", "")
        line = case.get("line")
        name = re.sub(r" \d+$", "", case.get("name", ""))
        shown.append(Shown(case.get("classname", ""), int(line) if line else None, severity, name))
    return shown


def lines_of(text: str) -> list[str]:
    assert text == "" or text.endswith("\n")
    return text.split("\n")[:-1]


READERS = {"concise": concise, "github": github, "gitlab": gitlab, "sarif": sarif, "junit": junit}
