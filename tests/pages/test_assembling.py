"""Pages are one file that needs no network, allowed to run exactly what they hold."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradlab.pages import HtmlPage, bundle, explore_page, html_of, inline_json
from gradlab.store import PAGE_MARK

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "</script><script>alert(1)</script><!-- \"' & \u2028 \ud83d".encode(errors="ignore").decode()


def sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_policy_allows_exactly_the_script_and_style_of_the_page() -> None:
    page = explore_page()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    (script,) = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert policy.split("; ") == [
        "default-src 'none'",
        f"script-src {sha256(script)}",
        f"style-src {sha256(style)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_explore_page_names_no_address_and_is_small() -> None:
    page = explore_page()
    assert len(page.encode()) <= 150_000
    assert not re.search(
        r"https?:|//[a-z]+\.|\burl\(|@import|\bimport\b.*from|<link|<iframe|<img| style=| on\w+=", page
    )
    assert PAGE_MARK in page[:4096]


def test_title_and_language_are_escaped() -> None:
    page = html_of(HtmlPage(HOSTILE, "<p></p>", [], "", language='"><b>'))
    assert f"<title>{html.escape(HOSTILE)}</title>" in page
    assert page.count("<script") == 1
    assert '<html lang="&quot;&gt;&lt;b&gt;">' in page


@pytest.mark.parametrize("text", ["'</script>'", "'</SCRIPT >'", "'<!--'"])
def test_a_script_that_ends_its_element_is_refused(text: str) -> None:
    with pytest.raises(AssertionError, match="the content of a script element ends it"):
        html_of(HtmlPage("", "", [], text))


@given(st.text())
def test_inline_json_is_the_value_and_ends_no_element(text: str) -> None:
    written = inline_json({"text": text + HOSTILE})
    assert not re.search("[<>&\u2028\u2029]", written)
    assert json.loads(written) == {"text": text + HOSTILE}


def test_inline_json_holds_no_infinite_number() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        inline_json(float("inf"))


def test_a_bundle_holds_each_file_once_after_its_imports(folder: Path) -> None:
    (folder / "a.js").write_text('import { b } from "./b.js";\nimport {\n  c,\n} from "./c.js";\nb(c);\n')
    (folder / "b.js").write_text('import { c } from "./c.js";\nexport const b = c;\n')
    (folder / "c.js").write_text("export const c = 1;\n")
    lines = bundle(folder / "a.js").split("\n")
    assert [line for line in lines if line] == ["export const c = 1;", "export const b = c;", "b(c);"]


def test_files_that_import_each_other_are_refused(folder: Path) -> None:
    (folder / "a.js").write_text('import { b } from "./b.js";\n')
    (folder / "b.js").write_text('import { a } from "./a.js";\n')
    with pytest.raises(AssertionError, match="imports itself"):
        bundle(folder / "a.js")
