"""Names that a shell completes: modes, tasks, experiments, rules and formats, listed without importing torch."""

from __future__ import annotations

from textwrap import shorten


def complete_mode(incomplete: str) -> list[tuple[str, str]]:
    """Return the modes with this prefix and their meaning. Families such as decay:K get an example number."""
    from gradlab.modes import WORDS

    modes = {word.replace("K", "0.9").replace("N", "4"): meaning for word, meaning in WORDS.items() if "." not in word}
    return [(name, meaning) for name, meaning in modes.items() if name.startswith(incomplete)]


def complete_task(incomplete: str) -> list[str]:
    """Return the built-in tasks with this prefix."""
    from gradlab.tasks import BUILT_IN

    return [name for name in BUILT_IN if name.startswith(incomplete)]


def complete_experiment(incomplete: str) -> list[str]:
    """Return the shipped experiments with this prefix."""
    from gradlab.experiment import shipped

    return [name for name in shipped() if name.startswith(incomplete)]


def complete_rule(incomplete: str) -> list[tuple[str, str]]:
    """Return the rules of the audit with this prefix, and the mistakes that they find, on one line each."""
    from gradlab.audit.rule_pages import ids, page

    def found(rule: str) -> str:
        summary = page(rule).summary.removeprefix("Finds ").replace("`", "")
        return shorten(summary, 60, placeholder=" …")  # Typer wraps longer ones, and fish lists their second lines

    return [(rule, found(rule)) for rule in ids() if rule.startswith(incomplete)]


def complete_format(incomplete: str) -> list[str]:
    """Return the formats of the audit's report with this prefix."""
    from gradlab.audit.formats import FORMATS

    return [name for name in FORMATS if name.startswith(incomplete)]
