"""Judgements on runs of one script: equal starts, determinism, and that imposing changes nothing else."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gradlab.modes import AS_WRITTEN
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradlab.comparison.job import ScriptOutcome
    from gradlab.comparison.records import ComparedRun


def first_difference(these: Sequence[float], those: Sequence[float]) -> int | None:
    """Return the first step whose losses are not equal bit for bit, of the steps that both have; None if all are."""
    pairs = enumerate(zip(these, those, strict=False))
    return next((step for step, (one, other) in pairs if not _same(one, other)), None)


def repeated(written: ComparedRun, losses: Sequence[float], outcome: ScriptOutcome) -> dict[str, Any]:
    """Return what a second run of the unmodified script shows, for the record of the first.

    Returns:
        steps: the number of compared steps.
        differs_from: the first step that differs; None if none does.
        spread: the difference of the mean losses over the last tenth of these steps.
        reason: the likely reason.
    """
    steps = min(len(written.losses), len(losses))
    step = first_difference(written.losses, losses)
    found: dict[str, Any] = {"steps": steps, "differs_from": step, "spread": 0.0, "reason": ""}
    if step is None:
        return found
    last = max(1, steps // 10)
    means = [sum(each[steps - last : steps]) / last for each in (written.losses, losses)]
    return found | {"spread": abs(means[0] - means[1]), "reason": _likely_reason(step, written, outcome)}


def _likely_reason(step: int, written: ComparedRun, outcome: ScriptOutcome) -> str:
    if outcome.weights != written.record.weights:
        return "its initial weights differ: it seeds a generator by time or from the system, such as torch.seed()"
    if step == 0:
        return (
            "its first batches differ: they come from a generator without a seed, such as numpy.random.default_rng(), "
            "or from the order of files or threads"
        )
    if outcome.hints:
        return "likely because " + " and ".join(outcome.hints)
    return "it depends on time, on several threads, or on a generator that is not seeded"


def determinism_note(written: ComparedRun) -> str:
    """Return what a reader must know of a script that is not deterministic; "" of any other."""
    repeat = written.record.compared.get("repeat") or {}
    if repeat.get("differs_from") is None:
        return ""
    return (
        f"The script is not deterministic: a second run of {counted(repeat['steps'], 'step')} differs from step "
        f"{repeat['differs_from']} on ({repeat['reason']}). At its end the losses differ by {repeat['spread']:.2g}; "
        "smaller differences between modes mean nothing."
    )


def faults_of(runs: Iterable[ComparedRun]) -> list[str]:
    """Return why runs must not be compared: they began differently, or imposing a mode was not harmless."""
    trained = [run for run in runs if run.result.rows]
    written = {run.plan.seed: run for run in trained if run.plan.mode is None}
    found = (_fault(run, written[run.plan.seed]) for run in trained if run.plan.seed in written)
    return [fault for fault in found if fault]


def _fault(run: ComparedRun, written: ComparedRun) -> str:
    if run.record.weights != written.record.weights:
        return (
            f"{run.plan.title} did not begin with the weights of {AS_WRITTEN}, so they cannot be compared. "
            "Does the script seed its generators by time, or read a file that another run wrote?"
        )
    if not _same(run.losses[0], written.losses[0]):
        return (
            f"{run.plan.title} did not begin with the loss of {AS_WRITTEN}, so they cannot be compared. "
            "Does the script draw its batches from a generator without a seed?"
        )
    if (step := _harmed_from(run, written)) is None:
        return ""
    return (
        f"{run.plan.title} differs from {AS_WRITTEN} from step {step} on, though this mode is what the script does "
        "itself. This is a fault of gradlab: please report it."
    )


def _harmed_from(run: ComparedRun, written: ComparedRun) -> int | None:
    """Return from which step on imposing the script's own mode changed its losses; None if it did not."""
    same = {each.get("imposes") for each in written.record.compared.get("optimizers", [])}
    if same != {run.plan.name} or run.plan.settings["only_optimizer"] is not None:
        return None
    if run.record.compared.get("imposed") != "yes" or determinism_note(written):
        return None
    step = first_difference(run.losses, written.losses)
    if step is None and run.record.status == written.record.status == "done":
        lengths = {len(run.losses), len(written.losses)}
        return min(lengths) if len(lengths) > 1 else None
    return step


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
