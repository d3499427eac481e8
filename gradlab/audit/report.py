"""The report: a summary of every optimizer, then the findings; as text or as data."""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit import findings
from gradlab.audit.findings.stepping import is_without_pass
from gradlab.audit.history.keep import (
    MeasuredKeep,
    backwards_per_update,
    keep_of,
    mode_of,
    passes_of,
    scale_of_kept,
)
from gradlab.audit.places import notebook_cell
from gradlab.audit.ranks import merged_findings, merged_optimizers, remarks_on
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
    from typing import TypeVar

    from gradlab.audit.findings import Finding
    from gradlab.audit.history.history import History, OptimizerHistory
    from gradlab.audit.places import Place
    from gradlab.audit.ranks import RankRecord

    Item = TypeVar("Item")

FEW = 4  # beyond, optimizers that differ only in numbers share an entry, as do findings at the same lines
NARROWEST = 20  # columns
WITHOUT_STEP = (
    "Perhaps the script only evaluates, updates its weights by hand, or trains in another process, "
    "which the audit does not watch"
)
TOGETHER = "\0"  # a space without a line break; never part of a path
BREAKS = (r"(?<=[/\\])", r"(?<=[_.-])", "")  # where to break a word longer than a line, best first


class OptimizerSummary(NamedTuple):
    """Measurements of one optimizer of the script."""

    kind: str  # class name
    parameters: int
    updates: int
    backwards_per_update: int | None
    keep: MeasuredKeep | None  # None if not measured
    mode: str | None  # None if no single mode fits
    meaning: str  # the mode in words
    backwards: int | None = None  # all backward passes, if some steps with a gradient came without one
    number: int = 0  # among several optimizers of this class, from 1; 0 if it is the only one
    groups: int = 1
    created: int = 1  # optimizers of this class that held these parameters, one after the other


class Report:
    """Results of an audit; they grow while the script runs."""

    def __init__(self, history: History, chosen: Collection[str] = findings.DEFAULT) -> None:
        self.history = history
        self.chosen = chosen  # ids of rules
        self.rank = 0
        self.other_ranks: tuple[RankRecord, ...] = ()  # of a distributed training
        self._folder = ""
        with suppress(OSError):  # the folder may be gone
            self._folder = os.getcwd()  # noqa: PTH109 - the user's folder; a script may change it

    @property
    def optimizers(self) -> list[OptimizerSummary]:
        """Measurements of every optimizer that took a step."""
        own = [_optimizer(each) for each in self.history.trained()]
        return merged_optimizers(self.rank, own, self.other_ranks)

    @property
    def findings(self) -> list[Finding]:
        """Mistakes and notes, errors first."""
        return merged_findings(self.rank, findings.find(self.history, self.chosen), self.other_ranks)

    @property
    def ok(self) -> bool:
        """Whether the audit found no error and no warning."""
        return all(each.severity == "note" for each in self.findings)

    @property
    def nothing_audited(self) -> str | None:
        """Why nothing was audited; None if an optimizer took a step."""
        if self.history.updates or self.history.threads_at_once or any(each.audited for each in self.other_ranks):
            return None
        return f"{_without_updates(self.history)}. {WITHOUT_STEP}"

    def add_ranks(self, rank: int, others: Sequence[RankRecord]) -> None:
        """Report what other ranks of a distributed training found, too; `rank` is the number of this one."""
        self.rank, self.other_ranks = rank, tuple(sorted(others))
        self.history.notes += remarks_on(self.history.remarks(), self.other_ranks)
        self.history.faults += [f"rank {each.rank}: {fault}" for each in self.other_ranks for fault in each.faults]

    def lines(self, width: int = 80) -> list[str]:
        """Return the report as text lines of at most `width` columns; equal entries share one."""
        found, without = self.findings, self.nothing_audited
        text = [f"gradlab audit: {_verdict(self.history, found, without)}"]
        text += [f"  {without}"] if without else []
        for alike in _alike(self.optimizers):
            text += [_head(alike), f"  {alike[0].meaning}"]
        text += [] if found else self._looked_at()
        text += [f"  {each}" for each in self.history.remarks()]
        for same in _grouped(found, lambda each: (each.id, each.severity, each.places, each.instead)):
            text += [line for each in same[: 1 if len(same) > FEW else None] for line in self._lines_of(each)]
            text += [f"  and {len(same) - 1} more at the same lines"] if len(same) > FEW else []
        if self.history.faults:
            text += [f"the audit itself failed; first failure: {self.history.faults[0]}"]
        return [line for each in text for line in _wrapped(each, width)]

    def _looked_at(self) -> list[str]:
        """Return a line on the measured updates if they are at most half: rare mistakes may be missed."""
        updates = self.history.updates
        measured = sum(each.times_measured for each in self.history.optimizers)
        if 2 * measured > updates or not updates or self.history.threads_at_once:
            return []
        return [f"  measured {measured:,} of {updates:,} updates; --sample 1 measures all"]

    def _lines_of(self, found: Finding) -> list[str]:
        at = f", at{TOGETHER}{_shown(found.places, self._folder)}" if found.places else ""
        head = f"{found.severity} {found.id}, since update {found.since_update}{at}"
        return [head, f"  {found.message}", f"  instead: {found.instead}"]

    def as_json(self, script: str | None, exit_status: int) -> dict[str, Any]:
        """Return the report as the document that `audit --json` prints."""
        return {
            "script": script,
            "exit_status": exit_status,
            "optimizers": [
                {
                    "class": each.kind,
                    "parameters": each.parameters,
                    "updates": each.updates,
                    "backwards_per_update": each.backwards_per_update,
                    "keep": each.keep and each.keep._asdict(),
                    "mode": each.mode,
                }
                for each in self.optimizers
            ],
            "findings": [
                each._asdict() | {"places": [place._asdict() for place in each.places]} for each in self.findings
            ],
        }

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        """Return the text, so that a notebook shows it."""
        return str(self)


def _optimizer(history: OptimizerHistory) -> OptimizerSummary:
    keep, mode = keep_of(history), mode_of(history)
    passes, meaning = backwards_per_update(history), _meaning(history, keep, mode)
    apart = passes_of(history) if passes and any(is_without_pass(trace) for trace, _ in history.traces()) else None
    numbers = history.number, history.groups, history.created
    return OptimizerSummary(
        history.kind, history.parameters, history.updates, passes, keep, mode, meaning, apart, *numbers
    )


def _meaning(history: OptimizerHistory, keep: MeasuredKeep | None, mode: str | None) -> str:
    if keep is None and all(measured.empty for measured in history.measured):
        return "its steps find no gradient"
    if keep is None:
        within = ": it steps inside backward passes" if history.steps_within_pass else ""
        return f"keep could not be measured{within}"
    if mode is None and keep.steady:
        return "kept between updates, but sometimes cleared"
    if mode is None:
        return "no single mode: keep differs between updates or parameters"
    share, scale = keep.median, scale_of_kept(history)
    if scale > 1:
        return f"not cleared, but unscale_() divides all of .grad by {scale:,g}: {share:.3g} of the gradient is kept"
    if not -0.01 <= share <= 1.01:
        how = "grows with every update" if abs(share) > 1 else "is subtracted from the next one"
        return f"{share:.3g} times the gradient stays in .grad and {how}"
    if share < 0.01:
        _, every, ending = [*mode.split(":"), "", ""][:3] if mode.startswith("accumulate") else ("", "", "")
        summed = "; gradients are summed, because no loss is divided" if ending else ""
        return f"cleared after each window of {every} backward passes{summed}" if every else "cleared at every update"
    if share < 0.99:
        return f"{share:.3g} of the gradient is kept{_as_momentum(history, f'{share:.3g}')}"
    end = " and will not settle" if _as_momentum(history, "1") else ""
    return f"never cleared{_as_momentum(history, '1')}{end}"


def _as_momentum(history: OptimizerHistory, share: str) -> str:
    """Return what momentum the keep equals with plain SGD; nothing for optimizers with their own momentum."""
    own = any(history.settings.get(name) for name in ("momentum", "weight_decay"))
    return f", which equals momentum {share} with this SGD" if history.kind == "SGD" and not own else ""


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


def _sum(found: list[Finding]) -> str:
    numbers = Counter(each.severity for each in found)
    return ", ".join(counted(number, severity) for severity, number in numbers.items()) or "nothing found"


def _verdict(history: History, found: list[Finding], without: str | None) -> str:
    if history.threads_at_once:
        return "no verdict"
    return "nothing audited" if without and not found else _sum(found)


def _without_updates(history: History) -> str:
    if history.optimizers:
        return "no optimizer took a step"
    return "no optimizer was seen" + (", but there were backward passes" if history.backwards else "")


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
