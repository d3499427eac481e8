"""Help on a rule, for formats that carry it."""

from __future__ import annotations

import inspect
from typing import NamedTuple

from gradlab.audit.findings import RULES


class RuleHelp(NamedTuple):
    """Help on a rule."""

    summary: str  # one sentence
    markdown: str  # the whole help


def rule_help(rule: str) -> RuleHelp:
    """Return help on a rule by its id.

    >>> rule_help("stepped-twice").summary
    'Steps that use the gradient of the last step again.'
    """
    text = inspect.getdoc(RULES[rule]) if rule in RULES else None
    if not text:
        return RuleHelp(f"{rule}.", f"# {rule}\n")
    summary, _, more = text.removeprefix("Find ").partition("\n\n")
    summary = summary[0].upper() + " ".join(summary[1:].split())
    return RuleHelp(summary, f"# {rule}\n\n{summary}\n" + (f"\n{more}\n" if more else ""))
