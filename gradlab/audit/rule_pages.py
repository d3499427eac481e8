"""Pages of the audit's rules: what a rule finds, why it matters, an example and its correction.

A page is docs/rules/ID.md, in Markdown. Below its title is a line with the severities, then every section of
`SECTIONS`. The first sentence begins with "Finds". `Example` and `Use instead` hold one complete script each.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from gradlab import shipped
from gradlab.audit.choice.rules import faults_of_ids, plain_id
from gradlab.errors import AuditError, raise_together

if TYPE_CHECKING:
    from collections.abc import Mapping

SECTIONS = ("What it does", "Why is this bad?", "Example", "Use instead", "When it is reported", "Known limits")


class RulePage(NamedTuple):
    """The page of a rule.

    Attributes:
        severity: the line below the title, such as "Severity: error or note. On by default."
        summary: the mistake in one sentence, "Finds …", in Markdown.
        sections: their Markdown by title, in the order of the page.
        markdown: the whole page.
    """

    id: str
    severity: str
    summary: str
    sections: Mapping[str, str]
    markdown: str

    @property
    def severities(self) -> list[str]:
        """The severities that findings of the rule can have, the worst first."""
        return re.findall("error|warning|note", self.severity.partition(". ")[0])


def ids() -> list[str]:
    """Return the ids of all rules and notes that have a page, in alphabetical order."""
    return sorted(file.stem for file in shipped.rules().glob("*.md"))


def page(rule: str) -> RulePage:
    """Return the page of a rule. In its id, `-` and `_` are alike, and case does not matter.

    Raises:
        AuditError: no rule has this id.
    """
    raise_together([AuditError(each) for each in faults_of_ids([rule])], AuditError)
    name = plain_id(rule)
    markdown = (shipped.rules() / f"{name}.md").read_text(encoding="utf-8")
    head, *parts = re.split(r"^## ", markdown, flags=re.MULTILINE)
    sections = {title: body.strip() for title, _, body in (part.partition("\n") for part in parts)}
    paragraph = " ".join(sections["What it does"].partition("\n\n")[0].split())
    summary = re.split(r"(?<=\.) ", paragraph, maxsplit=1)[0]
    return RulePage(name, head.split("\n\n")[1].strip(), summary, sections, markdown)
