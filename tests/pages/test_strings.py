"""The text of the page: both languages have all of it, in plain words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradlab.pages.assembling import SOURCES
from tests.pages.tools import answers_in_node
from tests.test_words import Passage, faults_of

if TYPE_CHECKING:
    from pathlib import Path

SCRIPTS = {file.name: file.read_text() for file in (SOURCES / "explore").glob("*.js") if file.name != "strings.js"}
BODY = (SOURCES / "explore" / "page.html").read_text()


def strings_in(folder: Path) -> dict[str, dict[str, str]]:
    (found,) = answers_in_node([("strings", None)], folder)
    table: dict[str, dict[str, str]] = found
    return table


def test_both_languages_have_every_text_with_the_same_values(folder: Path) -> None:
    strings = strings_in(folder)
    english, chinese = strings["en"], strings["zh"]
    assert len(english) > 100
    assert list(english) == list(chinese)
    values = {key: sorted(re.findall(r"\{(\w+)\}", text)) for key, text in english.items()}
    assert {key: sorted(re.findall(r"\{(\w+)\}", text)) for key, text in chinese.items()} == values
    assert all(english.values())
    assert all(chinese.values())


def test_every_text_is_used(folder: Path) -> None:
    strings, known = strings_in(folder), answers_in_node([("defaults", None)], folder)[0]
    source = "\n".join(SCRIPTS.values())
    called = re.findall(r"\btext\(((?:[^()`]|\([^()]*\))*)", source)  # text("key"), text(isFull ? "one" : "other")
    used = {key for call in called for key in re.findall(r'"(\w+)"', call)}
    used |= set(re.findall(r'data-(?:text|hint|label)="(\w+)"', BODY)) | set(re.findall(r'"(why_\w+)"', source))
    (controls,) = re.findall(r"const CONTROLS = \[(.*)\]", source)
    used |= set(re.findall(r"\w+", controls)) | {"falls", "rises", "oscillates", "diverges", "flat"}
    used |= {f"{family}_{preset}" for family in ("preset", "about") for preset in known["presets"]}
    used |= {f"{family}_{each['id']}" for family in ("question", "answer") for each in known["questions"]}
    used |= {f"option_{answer}" for answer in known["answers"]}
    assert set(strings["en"]) ^ used == set()


def test_every_text_that_the_body_names_exists(folder: Path) -> None:
    strings = strings_in(folder)
    named = re.findall(r'data-(?:text|hint|label)="(\w+)"', BODY)
    assert len(named) > 40
    assert [key for key in named if key not in strings["en"]] == []


def test_no_text_stands_outside_of_the_table() -> None:
    body = re.sub(r"<noscript>.*?</noscript>|<h1.*?</h1>", "", BODY)
    assert re.findall(r">[^<>]*\w[^<>]*<", body) == []


def test_texts_are_in_plain_words(folder: Path) -> None:
    strings = strings_in(folder)
    file = SOURCES / "explore" / "strings.js"
    passages = (Passage(file, number, text) for number, text in enumerate(strings["en"].values(), 1))
    assert faults_of(passages) == []
