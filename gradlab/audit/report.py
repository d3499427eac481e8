"""The report: of each optimizer what it does, then what was found; as lines of text or as data."""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.audit import findings
from gradlab.audit.keep import Keep, backwards_per_update, keep_of, mode_of

if TYPE_CHECKING:
    from gradlab.audit.findings import Finding
    from gradlab.audit.history import History, OptimizerHistory
    from gradlab.audit.places import Place


class Optimizer(NamedTuple):
    """What was measured of one optimizer of the script."""

    kind: str  # the name of its class
    parameters: int
    updates: int
    backwards_per_update: int | None
    keep: Keep | None  # None where it could not be measured
    mode: str | None  # None where no one mode tells it
    meaning: str  # in a sentence


class Report:
    """What was seen of a script; it grows while the script is watched."""

    def __init__(self, history: History) -> None:
        self.history = history

    @property
    def optimizers(self) -> list[Optimizer]:
        """Of each optimizer that took a step what was measured."""
        return [_optimizer(each) for each in self.history.trained()]

    @property
    def findings(self) -> list[Finding]:
        """What was found, errors first."""
        return findings.find(self.history)

    @property
    def ok(self) -> bool:
        """Whether nothing was found, notes aside."""
        return all(each.severity == "note" for each in self.findings)

    def lines(self, width: int = 80) -> list[str]:
        """Return the report as text, in lines of at most so many columns where a word allows."""
        text = [f"gradlab audit: {_sum(self.findings)}"]
        text += [] if self.history.trained() else [f"  {_without_updates(self.history)}"]
        for each in self.optimizers:
            text += [_head(each), f"  {each.meaning}"]
        for found in self.findings:
            at = f", at {_shown(found.places)}" if found.places else ""
            text += [f"{found.severity} {found.id}, since update {found.since_update}{at}"]
            text += [f"  {found.message}", f"  instead: {found.instead}"]
        text += self.history.remarks()
        if self.history.faults:
            text += [f"the audit itself failed now and then, first by {self.history.faults[0]}"]
        return [line for each in text for line in _wrapped(each, width)]

    def as_json(self, script: str | None, exit_status: int) -> dict[str, Any]:
        """Return the report as the one document that `audit --json` prints."""
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


def _optimizer(history: OptimizerHistory) -> Optimizer:
    keep, mode = keep_of(history), mode_of(history)
    return Optimizer(
        history.kind,
        history.parameters,
        history.updates,
        backwards_per_update(history),
        keep,
        mode,
        _meaning(history, keep, mode),
    )


def _meaning(history: OptimizerHistory, keep: Keep | None, mode: str | None) -> str:
    if keep is None and all(measured.empty for measured in history.measured):
        return "its steps find no gradient"
    if keep is None:
        return "what is kept of the gradient could not be measured"
    if mode is None:
        return "no one mode: what is kept differs from update to update or between parameters"
    share = keep.median
    if share < 0.01:
        _, every, ending = [*mode.split(":"), "", ""][:3] if mode.startswith("accumulate") else ("", "", "")
        summed = ", whose gradients are summed: no loss is divided" if ending else ""
        return f"cleared after each window of {every} backward passes{summed}" if every else "cleared for each update"
    if share < 0.99:
        return f"{share:.3g} of the gradient is kept{_as_momentum(history, f'{share:.3g}')}"
    end = "; it will not settle" if _as_momentum(history, "1") else ""
    return f"never cleared{_as_momentum(history, '1')}{end}"


def _as_momentum(history: OptimizerHistory, share: str) -> str:
    """Say what keep is to plain SGD; to an optimizer with a memory of its own it is not just that."""
    own = any(history.settings.get(name) for name in ("momentum", "weight_decay"))
    return f": with this SGD it is momentum {share}" if history.kind == "SGD" and not own else ""


def _head(each: Optimizer) -> str:
    passes = "?" if each.backwards_per_update is None else str(each.backwards_per_update)
    kept = "keep not measured"
    if each.keep:
        low, high = f"{each.keep.min:.3g}", f"{each.keep.max:.3g}"
        kept = f"keep {each.keep.median:.3g}" + (f" ({low} to {high})" if low != high else "")
    return (
        f"{each.kind}: {_counted(each.parameters, 'parameter')}, {_counted(each.updates, 'update')}, "
        f"{passes} backward each, {kept}: {each.mode or 'no one mode'}"
    )


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")


def _sum(found: list[Finding]) -> str:
    counted = Counter(each.severity for each in found)
    return ", ".join(_counted(number, severity) for severity, number in counted.items()) or "nothing found"


def _without_updates(history: History) -> str:
    if history.optimizers:
        return "no optimizer took a step"
    return "no optimizer was seen" + (", though there were backward passes" if history.backwards else "")


def _shown(places: tuple[Place, ...]) -> str:
    """Return places as FILE:LINE, LINE, the file as seen from the current folder where it lies below."""
    by_file: dict[str, list[str]] = {}
    for place in places:
        by_file.setdefault(place.file, []).append(str(place.line))
    return "; ".join(f"{_seen_from_here(file)}:{', '.join(lines)}" for file, lines in by_file.items())


def _seen_from_here(file: str) -> str:
    path = Path(file)
    return os.path.relpath(path) if path.is_absolute() and path.is_relative_to(Path.cwd()) else file


def _wrapped(line: str, width: int) -> list[str]:
    indent = "  " if line.startswith("  ") else ""
    return textwrap.wrap(line, max(20, width), subsequent_indent=indent + "  ", break_on_hyphens=False) or [""]
