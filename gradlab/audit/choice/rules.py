"""Chosen rules: the default ones, those added by `select`, without those in `ignore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.audit import findings
from gradlab.errors import AuditError, nearest, raise_together, shortened

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

UNUSED_IGNORE = "unused-ignore"  # a note on a comment, which no rule gives
DEFAULT = findings.DEFAULT | {UNUSED_IGNORE}


def choose(
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    base: frozenset[str] = DEFAULT,
    sources: tuple[str, str] = ("select", "ignore"),
) -> frozenset[str]:
    """Return the ids in `base` or `select`, without those in `ignore`.

    `sources` are the names of both lists in messages. A string is a list of one id.

    Raises:
        AuditError: an id is unknown, or in both lists; the message has all such ids.
    """
    lists = [[each] if isinstance(each, str) else list(each) for each in (select, ignore)]
    wrong = [f"{source}: {each}" for source, ids in zip(sources, lists, strict=True) for each in faults_of_ids(ids)]
    wrong += [f"{sources[1]}: {each}" for each in faults_of_both(*lists)]
    raise_together([AuditError(each) for each in wrong], AuditError)
    added, removed = (frozenset(map(plain_id, ids)) for ids in lists)
    return (base | added) - removed


def switched_off(chosen: Collection[str]) -> list[str]:
    """Return the ids of default rules and notes that are not chosen."""
    return [each for each in known_ids() if each in DEFAULT and each not in chosen]


def known_ids() -> tuple[str, ...]:
    """Return the ids of all rules and notes."""
    return *findings.RULES, UNUSED_IGNORE


def plain_id(name: str) -> str:
    """Return an id as rules spell it.

    >>> plain_id(" Never_Cleared")
    'never-cleared'
    """
    return name.strip().replace("_", "-").lower()


def faults_of_ids(ids: Iterable[object]) -> Iterator[str]:
    """Yield a message for each id that no rule has."""
    for each in ids:
        if not isinstance(each, str):
            yield f"must hold ids of rules, got {shortened(repr(each))}"
        elif plain_id(each) not in known_ids():
            text = unknown_id(each)
            yield text if text.endswith("?") else f"{text}; docs/audit.md lists all rules"


def unknown_id(name: str) -> str:
    """Return the message for an unknown id: the nearest known one, if any is near.

    >>> unknown_id("never-clear"), unknown_id("x")
    ("unknown rule 'never-clear'; did you mean 'never-cleared'?", "unknown rule 'x'")
    """
    near = nearest(plain_id(name), known_ids())
    return f"unknown rule '{shortened(name)}'" + (f"; did you mean '{near}'?" if near else "")


def faults_of_both(select: Iterable[object], ignore: Iterable[object]) -> Iterator[str]:
    """Yield a message for each id in both lists."""
    selected = {plain_id(each) for each in select if isinstance(each, str)}
    for each in dict.fromkeys(plain_id(each) for each in ignore if isinstance(each, str)):
        if each in selected:
            yield f"'{shortened(each)}' is also in select; remove one"
