"""A finding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from gradlab.audit.places import Place

Severity = Literal["error", "warning", "note"]


class Finding(NamedTuple):
    """What a script does that it should not, or (a note) what one should know of."""

    id: str  # in kebab case
    severity: Severity
    since_update: int  # the first that shows it; they are counted from 1
    places: tuple[Place, ...]  # the lines of the user's code that do it, by file and line
    message: str  # a sentence, with the numbers that it rests on
    instead: str  # what to write
