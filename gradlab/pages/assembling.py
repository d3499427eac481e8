"""Assembling: one HTML file from modules of JavaScript, style sheets and a body."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gradlab.store import PAGE_MARK

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCES = Path(__file__).parent

_IMPORT = re.compile(r'^import \{[^}]*\} from "([^"]+)";\n', re.MULTILINE)


class HtmlPage(NamedTuple):
    """The parts of a page.

    Attributes:
        title: text of the browser's tab.
        body: HTML. It has no inline handlers and no style attributes: the policy forbids them.
        styles: style sheets, in this order.
        script: one JavaScript module without imports.
        language: BCP 47 code.
    """

    title: str
    body: str
    styles: Sequence[str]
    script: str
    language: str = "en"


def html_of(page: HtmlPage) -> str:
    """Return the page as one HTML file."""
    style = "\n".join(page.styles)
    policy = (
        f"default-src 'none'; script-src '{_hash_of(page.script)}'; style-src '{_hash_of(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            "<!DOCTYPE html>",
            f'<html lang="{html.escape(page.language)}">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            PAGE_MARK,
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(page.title)}</title>",
            f"<style>{_checked(style, 'style')}</style>",
            "</head>",
            "<body>",
            page.body.rstrip(),
            f'<script type="module">{_checked(page.script, "script")}</script>',
            "</body>",
            "</html>",
            "",
        ]
    )


def bundle(entry: Path) -> str:
    """Return a module of JavaScript and all that it imports as one module, each file once, after its imports.

    Imports have the form `import { a, b } from "./file.js";`. All files share one scope, so no two top-level names
    may be the same.
    """
    parts: dict[Path, str] = {}

    def add(file: Path, around: tuple[Path, ...]) -> None:
        if file in parts:
            return
        assert file not in around, f"{file.name} imports itself through another file"
        source = file.read_text(encoding="utf-8")
        for target in _IMPORT.findall(source):
            add((file.parent / target).resolve(), (*around, file))
        parts[file] = _IMPORT.sub("", source)

    add(entry.resolve(), ())
    return "\n".join(parts.values())


def inline_json(value: object) -> str:
    """Return strict JSON that is safe inside a script element, with any text in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _hash_of(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _checked(text: str, element: str) -> str:
    """Return the content of an element, which must not end it."""
    assert not re.search(rf"</{element}|<!--", text, re.IGNORECASE), f"the content of a {element} element ends it"
    return text
