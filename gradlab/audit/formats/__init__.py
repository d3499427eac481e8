"""Formats of the report: each is a function from the result of an audit to a text, or to a value for JSON.

To add a format, write a function `(result: AuditResult) -> str | JSON value` in a module of this package, and list it
in `FORMATS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.audit.formats.concise import concise
from gradlab.audit.formats.document import document
from gradlab.audit.formats.full import full
from gradlab.audit.formats.github import github
from gradlab.audit.formats.gitlab import gitlab
from gradlab.audit.formats.junit import junit
from gradlab.audit.formats.result import AuditResult
from gradlab.audit.formats.sarif import sarif

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Format = Callable[[AuditResult], Any]  # a text, or a value that is written as JSON

__all__ = ["FORMATS", "AuditResult"]

FORMATS: Mapping[str, Format] = {
    "full": full,
    "concise": concise,
    "json": document,
    "github": github,
    "gitlab": gitlab,
    "sarif": sarif,
    "junit": junit,
}
