"""Comments applied to findings: those that stay, those that are ignored, and notes on comments without effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradlab.audit.choice.comments import comments_in
from gradlab.audit.choice.evidence import has_evidence
from gradlab.audit.choice.rules import UNUSED_IGNORE, known_ids, plain_id, unknown_id
from gradlab.audit.findings import Finding
from gradlab.audit.places import Place

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from gradlab.audit.choice.comments import IgnoreComment
    from gradlab.audit.history.history import History, OptimizerHistory

    Comments = dict[str, tuple[IgnoreComment, ...]]  # by file


class AppliedComments(NamedTuple):
    """Findings, by what comments do to them."""

    kept: list[Finding]  # with notes on comments without effect
    ignored: list[Finding]


def apply_comments(found: list[Finding], history: History, chosen: Collection[str]) -> AppliedComments:
    """Return the findings that no comment ignores, and those that one does.

    A comment ignores a finding if it names its rule and stands on any line of a statement that the finding lists.
    """
    files = dict.fromkeys(place.file for place in (*_places_in(history), *_places_of(found)))
    comments = {file: comments_in(file) for file in files}
    ignored = [each for each in found if is_ignored(each, comments)]
    kept = [each for each in found if each not in ignored]
    notes = _notes(comments, kept, ignored, history, chosen) if UNUSED_IGNORE in chosen else ()
    return AppliedComments(kept + [each for each in notes if not is_ignored(each, comments)], ignored)


def is_ignored(found: Finding, comments: Comments | None = None) -> bool:
    """Say whether a comment on one of its lines ignores a finding."""
    if comments is None:
        comments = {place.file: comments_in(place.file) for place in found.places}
    return any(
        found.id in map(plain_id, each.ids) and each.covers(place)
        for place in found.places
        for each in comments[place.file]
    )


def without_used(found: list[Finding], ignored: list[Finding]) -> list[Finding]:
    """Return the findings without notes on comments that ignore one of `ignored`, on another rank."""
    return [each for each in found if each.id != UNUSED_IGNORE or not _is_about_used(each, ignored)]


def _is_about_used(note: Finding, ignored: list[Finding]) -> bool:
    (place,) = note.places
    on_line = [each for each in comments_in(place.file) if each.line == place.line]
    about = {each.id for each in ignored if note.message.startswith(f"{each.id} was ")}  # see _notes
    return any(_is_used(rule, place.file, comment, ignored) for rule in about for comment in on_line)


def _places_of(found: list[Finding]) -> Iterator[Place]:
    for each in found:
        yield from each.places


def _places_in(history: History) -> Iterator[Place]:
    """Yield the lines of all events."""
    for each in history.optimizers:
        for places in each.places.values():
            yield from places


def _notes(
    comments: Comments, kept: list[Finding], ignored: list[Finding], history: History, chosen: Collection[str]
) -> Iterator[Finding]:
    """Yield a note for each id in a comment that ignores nothing; for a rule, only with enough evidence."""
    for file, in_file in comments.items():
        for comment in in_file:
            if not comment.ids:
                wrong = "names no rule" if comment.understood else "is not understood"
                text = f"this comment {wrong}, so it ignores nothing"
                yield _note(file, comment, text, "write # gradlab: ignore[ID], with the id of a finding")
            for name in comment.ids:
                if plain_id(name) not in known_ids():
                    yield _note(file, comment, unknown_id(name), "write the id of a finding")
                    continue
                if plain_id(name) not in chosen:
                    continue
                rule = plain_id(name)
                if lines := _lines_elsewhere(rule, file, comment, kept, ignored, history):
                    why = f"{rule} was found, but not on this line: it lists {', '.join(lines)}"
                    yield _note(file, comment, why, _where_to_move(comment, lines))
                elif why := _why_unused(rule, file, comment, ignored, history):
                    yield _note(file, comment, why, "remove it from the comment")


def _note(file: str, comment: IgnoreComment, message: str, instead: str) -> Finding:
    return Finding(UNUSED_IGNORE, "note", 1, (Place(file, comment.line),), message, instead)


def _where_to_move(comment: IgnoreComment, lines: list[str]) -> str:
    what = "it" if len(comment.ids) == 1 else "this id"
    return f"move {what} to line {' or '.join(filter(None, [', '.join(lines[:-1]), lines[-1]]))}"


def _is_used(rule: str, file: str, comment: IgnoreComment, ignored: list[Finding]) -> bool:
    return any(each.id == rule and _lists(each, file, comment) for each in ignored)


def _lines_elsewhere(
    rule: str, file: str, comment: IgnoreComment, kept: list[Finding], ignored: list[Finding], history: History
) -> list[str]:
    """Return the other lines of a file that findings of a rule list, if the comment ignores none of them."""
    if _is_used(rule, file, comment, ignored) or history.threads_at_once:
        return []
    lines = {place.line for each in kept if each.id == rule for place in each.places if place.file == file}
    return [str(line) for line in sorted(lines)]


def _why_unused(rule: str, file: str, comment: IgnoreComment, ignored: list[Finding], history: History) -> str:
    """Return why a comment ignores no finding of a rule; "" if it does, or if the evidence is too small."""
    if _is_used(rule, file, comment, ignored) or history.threads_at_once:
        return ""
    trained = [each for each in history.optimizers if any(map(comment.covers, _lines_in(each, file)))]
    if any(has_evidence(rule, each) for each in trained):
        return f"{rule} was not found on this line, so this comment ignores nothing"
    return ""


def _lists(found: Finding, file: str, comment: IgnoreComment) -> bool:
    return any(place.file == file and comment.covers(place) for place in found.places)


def _lines_in(history: OptimizerHistory, file: str) -> Iterator[Place]:
    return (place for places in history.places.values() for place in places if place.file == file)
