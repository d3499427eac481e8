"""The full report, for people: every optimizer, every finding and what to write instead."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from gradlab.audit.findings.finding import LEAST
from gradlab.audit.formats.result import failure_of, head_of
from gradlab.audit.places import notebook_cell
from gradlab.errors import printable
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from typing import TypeVar

    from gradlab.audit.findings import Finding
    from gradlab.audit.formats.result import AuditResult
    from gradlab.audit.history.history import History
    from gradlab.audit.history.keep import MeasuredKeep
    from gradlab.audit.places import Place
    from gradlab.audit.summary import OptimizerSummary

    Item = TypeVar("Item")

FEW = 4  # beyond, optimizers that differ only in numbers share an entry, as do findings at the same lines
ENOUGH = LEAST + 1  # measured updates: kept gradient shows from the second on
NARROWEST = 20  # columns
TOGETHER = "\0"  # a space without a line break; never part of a path
BREAKS = (r"(?<=[/\\])", r"(?<=[_.-])", "")  # where to break a word longer than a line, best first


def full(result: AuditResult) -> str:
    """Return the report as a text file with lines of at most 80 columns."""
    return "".join(f"{printable(line)}\n" for line in report_lines(result))


def report_lines(result: AuditResult, width: int = 80) -> list[str]:
    """Return the report as text lines of at most `width` columns; equal entries share one."""
    history, found = result.history, result.findings
    text = [f"gradlab audit: {_verdict(result)}"]
    if result.exit_status:
        text += [f"  {failure_of(result)}"]
    elif result.nothing_audited:
        text += [f"  {result.nothing_audited}"]
    for alike in _alike(result.optimizers):
        text += [_head(alike), f"  {alike[0].meaning}"]
    text += _too_few(history)
    text += [] if found else _looked_at(history)
    text += [f"  {counted(len(result.ignored), 'finding')} ignored by comments"] if result.ignored else []
    text += [f"  not checked: {', '.join(result.switched_off)}"] if result.switched_off else []
    text += [f"  {each}" for each in history.remarks()]
    for same in _grouped(found, lambda each: (each.id, each.severity, each.places, each.instead)):
        shown = same[: 1 if len(same) > FEW else None]
        text += [line for each in shown for line in _lines_of(each, result.folder)]
        text += [f"  and {len(same) - 1} more at the same lines"] if len(same) > FEW else []
    if history.faults:
        text += [f"the audit itself failed; first failure: {history.faults[0]}"]
    return [line for each in text for line in _wrapped(each, width)]


def _too_few(history: History) -> list[str]:
    """Return a line on the measured updates if most rules need more of them."""
    measured = [each.times_measured for each in history.trained()]
    if not measured or max(measured) >= ENOUGH or history.threads_at_once:
        return []
    most = counted(max(measured), "update")
    were = "was" if max(measured) == 1 else "were"
    per_optimizer = " per optimizer" if len(measured) > 1 else ""
    return [f"  only {most}{per_optimizer} {were} measured; most rules need at least {ENOUGH}"]


def _looked_at(history: History) -> list[str]:
    """Return a line on the measured updates if they are at most half: rare mistakes may be missed."""
    updates = history.updates
    measured = sum(each.times_measured for each in history.optimizers)
    if 2 * measured > updates or not updates or history.threads_at_once:
        return []
    return [f"  measured {measured:,} of {updates:,} updates; --sample 1 measures all"]


def _lines_of(found: Finding, folder: str) -> list[str]:
    at = f", at{TOGETHER}{_shown(found.places, folder)}" if found.places else ""
    return [f"{head_of(found)}{at}", f"  {found.message}", f"  instead: {found.instead}"]


def _alike(optimizers: list[OptimizerSummary]) -> Iterable[list[OptimizerSummary]]:
    """Yield groups of optimizers that share one line: equal ones, or many that differ only in numbers."""
    for same in _grouped(optimizers, lambda each: each._replace(updates=0, keep=None, backwards=None, number=0)):
        yield from [same] if len(same) > FEW else _grouped(same, lambda each: each._replace(number=0))


def _grouped(items: list[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    groups: dict[Hashable, list[Item]] = {}
    for each in items:
        groups.setdefault(key(each), []).append(each)
    return list(groups.values())


def _head(alike: list[OptimizerSummary]) -> str:
    first, keeps = alike[0], [each.keep for each in alike if each.keep]
    low, high = min(each.updates for each in alike), max(each.updates for each in alike)
    updates = counted(high, "update") if low == high else f"{low:,} to {high:,} updates"
    made = f", created {first.created} times" if first.created > 1 else ""
    per_update = "?" if first.backwards_per_update is None else first.backwards_per_update
    passes = f"{per_update} backward {'pass' if per_update == 1 else 'passes'} per update"
    if first.backwards is not None and len(alike) == 1:
        passes = counted(first.backwards, "backward pass")
    return (
        f"{_named(alike)}{made}: {counted(first.parameters, 'parameter')}, "
        f"{updates}, {passes}, {_kept(keeps)}: "
        f"{first.mode or 'no single mode'}"
    )


def _named(alike: list[OptimizerSummary]) -> str:
    """Return how many equal optimizers these are, and their class, numbers and groups: "SGD #2 (2 groups)"."""
    first, numbers = alike[0], [f"#{each.number}" for each in alike if each.number]
    shown = f" {', '.join(numbers)}" if 0 < len(numbers) <= FEW else ""
    times = f"{len(alike)} × " if len(alike) > 1 else ""
    return f"{times}{first.kind}{shown}" + (f" ({first.groups} groups)" if first.groups > 1 else "")


def _kept(keeps: list[MeasuredKeep]) -> str:
    if not keeps:
        return "keep not measured"
    low, high = f"{min(each.min for each in keeps):.3g}", f"{max(each.max for each in keeps):.3g}"
    return f"keep {median(each.median for each in keeps):.3g}" + (f" ({low} to {high})" if low != high else "")


def _verdict(result: AuditResult) -> str:
    if result.history.threads_at_once:
        return "no verdict"
    return "nothing audited" if result.nothing_audited and not result.findings else _sum(result.findings)


def _sum(found: list[Finding]) -> str:
    numbers = Counter(each.severity for each in found)
    return ", ".join(counted(number, severity) for severity, number in numbers.items()) or "nothing found"


def _shown(places: tuple[Place, ...], folder: str) -> str:
    """Return places as FILE:LINE, LINE, the file relative to the folder if it is inside, or as cells of a notebook."""
    by_file: dict[str, list[str]] = {}
    for place in places:
        by_file.setdefault(place.file, []).append(str(place.line))
    return "; ".join(_shown_file(file, lines, folder) for file, lines in by_file.items())


def _shown_file(file: str, lines: list[str], folder: str) -> str:
    if cell := notebook_cell(file):
        return f"cell {cell}, line{'s' if len(lines) > 1 else ''} {', '.join(lines)}"
    return f"{_seen_from(folder, file)}:{', '.join(lines)}"


def _seen_from(folder: str, file: str) -> str:
    path = Path(file)
    return str(path.relative_to(folder)) if folder and path.is_absolute() and path.is_relative_to(folder) else file


def _wrapped(text: str, width: int) -> list[str]:
    """Return the text in lines of at most `width` columns, later lines indented further.

    A word longer than a line gets its own lines. A path breaks between its folders.
    """
    first, later = "  " if text.startswith("  ") else "", "    "
    room = max(NARROWEST, width) - len(later)
    lines = [first]
    for word in re.split(r"\s+", text.strip()):
        parts = [word] if _columns(word) <= room else _broken(word, room, BREAKS)
        for part in parts:
            joined = f"{lines[-1]} {part}" if lines[-1].strip() else lines[-1] + part
            whole = part is word or not lines[-1].strip()
            if whole and _columns(joined) <= room + len(later):
                lines[-1] = joined
            else:
                lines.append(later + part)
    return [line.replace(TOGETHER, " ") for line in lines]


def _broken(word: str, room: int, breaks: tuple[str, ...]) -> list[str]:
    """Return a word in parts of at most `room` columns.

    >>> _broken("folder/file_of_it.py:7", 10, BREAKS)
    ['folder/', 'file_of_', 'it.py:7']
    """
    parts = [""]
    for piece in re.split(breaks[0], word):
        if _columns(parts[-1] + piece) <= room:
            parts[-1] += piece
        elif _columns(piece) <= room:
            parts.append(piece)
        else:
            parts += _broken(piece, room, breaks[1:])
    return [part for part in parts if part]


def _columns(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text.replace(TOGETHER, " "))
