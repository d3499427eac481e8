"""Claims on a terminal: answer and numbers of every claim, and the totals."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gradlab.terminal.fitted_table import number_text
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradlab.verify import ClaimResult

COLOURS = {"holds": "green", "holds when": "yellow", "does not hold": "red", "skipped": "cyan"}
WORDS = {  # for one claim, for several
    "holds": ("holds", "hold"),
    "holds when": ("holds when …", "hold when …"),
    "does not hold": ("does not hold", "do not hold"),
    "skipped": ("skipped", "skipped"),
    "other": ("without an answer", "without an answer"),
}


def claim_block(finding: ClaimResult) -> Group:
    """Return the name of a claim, its statement, the answer and the measured numbers."""
    answer = Text(finding.answer, COLOURS.get(finding.kind, "bold red"))
    if not finding.ok:
        answer.append(f"\nThe documented answer is: {finding.documented}", "bold red")
    figures = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    figures.add_column(justify="right", no_wrap=True)
    figures.add_column(style="dim")
    for name, value in finding.figures.items():
        figures.add_row(Text(_figure_text(value)), Text(name))
    below = Group(Text(finding.statement, "italic"), answer, *([figures] if finding.figures else []))
    return Group(Text(finding.name, "bold"), Padding(below, (0, 0, 1, 2)))


def claims_line(findings: Sequence[ClaimResult]) -> Text:
    """Return the number of claims per answer, and whether all answers are as documented."""
    kinds = Counter(finding.kind for finding in findings)
    parts = [f"{n} {words[n > 1]}" for kind, words in WORDS.items() if (n := kinds[kind])]
    wrong = [finding.name for finding in findings if not finding.ok]
    end = f"not as documented: {', '.join(wrong)}" if wrong else "all as documented"
    claims = counted(len(findings), "claim")
    return Text(f"{claims}: {', '.join(parts)}; {end}", "bold red" if wrong else "green")


def _figure_text(value: float | str) -> str:
    """Return a number with four significant digits. Counts and words stay unchanged."""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else number_text(value)
