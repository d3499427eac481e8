"""Odd settings of a figure of runs: each is drawn and looked at, and no text of it may overlap or be cut off."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

from gradlab.rows import Row
from gradlab.store import RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Runs = list[tuple[RunRecord, list[Row]]]

FALL = [5.0, 4.0, 3.0, 2.5, 2.2, 2.0]
TITLE = "The loss that rises when zero_grad() is forgotten"
THREE = ("zero_grad", "no_zero_grad", "halve_grad")
TWELVE = (*THREE, *(f"decay:0.{nth}" for nth in range(1, 10)))


def run(losses: Sequence[float], mode: str = "zero_grad", seed: int = 1, *, per_epoch: int = 1, **more: Any) -> Runs:
    """Return a run with these losses; `more` is settings, or the experiment or title."""
    rows = [Row(nth, nth, nth // per_epoch, float(loss)) for nth, loss in enumerate(losses)]
    experiment, title = more.pop("experiment", "diverging_loss"), more.pop("title", TITLE)
    settings = {
        "task": "noisy_line", "mode": mode, "seed": seed, "optimizer": {"name": "SGD", "lr": 0.00067},
        "task_options": {"batch_size": 1}, **more,
    }  # fmt: skip
    record = RunRecord(
        experiment=experiment, mode=mode, seed=seed, identity="abc", settings=settings, status="done", title=title
    )
    return [(record, rows)]


def each(losses: Mapping[str, Sequence[float]], **more: Any) -> Runs:
    """Return a run per mode."""
    return [found for mode, values in losses.items() for found in run(values, mode, **more)]


def noisy(steps: int, seed: int = 0, trend: float = 0.0) -> list[float]:
    """Return losses like those of single samples."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    return [chance.gauss(0, 1) ** 2 * math.exp(trend * step / steps) for step in range(steps)]


def _diverging() -> Runs:
    curve = [5.0 * 3.0**step for step in range(500)]
    return each({"no_zero_grad": [y if y < 1e300 else math.inf for y in curve], "zero_grad": noisy(500)})


def _all_diverging() -> Runs:
    return each({mode: [5.0 * 1e7 ** (step / 3 + nth / 9) for step in range(44)] + [math.nan] * 450
                 for nth, mode in enumerate(THREE)})  # fmt: skip


def _seeds(number: int) -> Runs:
    return [
        found for mode, trend in zip(THREE, (-2, 1, -3), strict=True) for seed in range(number)
        for found in run([1 + y for y in noisy(30, seed, trend)], mode, seed)
    ]  # fmt: skip


def _two(one: Mapping[str, Any], other: Mapping[str, Any]) -> Runs:
    higher = [2 * y for y in FALL]
    return [*each(dict.fromkeys(THREE, FALL), **one), *each(dict.fromkeys(THREE, higher), **other)]


SETTINGS: dict[str, Callable[[], Runs]] = {
    "one step": lambda: each({key: [5.0] for key in THREE}),
    "one point of one run": lambda: run([0.3]),
    "two points": lambda: each({mode: [1.0, 2.0 + nth] for nth, mode in enumerate(THREE)}),
    "nan from the start": lambda: each(dict.fromkeys(THREE, [math.nan] * 5)),
    "one mode nan from the start": lambda: each({"zero_grad": FALL, "no_zero_grad": [math.nan] * 6}),
    "nan at the end": lambda: each({"zero_grad": FALL, "no_zero_grad": [*FALL[:5], math.nan]}),
    "infinite in between": lambda: each({"zero_grad": FALL, "no_zero_grad": [5, 9, math.inf, 2, 1, 0]}),
    "all end at one point": lambda: each({key: [5.0, 1.0, math.nan] for key in TWELVE[:7]}),
    "diverging among noise": _diverging,
    "all diverging": _all_diverging,
    "finite but far": lambda: each({"zero_grad": FALL, "no_zero_grad": [5.0, 1e5, 1e15, 1e25, 1e40, 1e60]}),
    "twelve modes": lambda: each({mode: [y + nth / 3 for y in FALL] for nth, mode in enumerate(TWELVE)}),
    "twelve modes that end alike": lambda: each(dict.fromkeys(TWELVE, FALL)),
    "24 modes": lambda: each({f"decay:0.{nth}": [y + nth for y in FALL] for nth in range(10, 34)}),
    "long names": lambda: each({f"keep=0.{nth}23456789012,every=1234567:sum": FALL for nth in range(4)}),
    "a long name without breaks": lambda: each({"mine/deep/folder.py:clear_gradients_now_and_then": FALL}),
    "an own mode in another script": lambda: each({"мой.py:очистить": FALL, "zero_grad": FALL[::-1]}),
    "1e-300": lambda: each({mode: [y * 1e-300 for y in FALL] for mode in THREE}),
    "1e300": lambda: each({mode: [y * 1e300 for y in FALL] for mode in THREE}),
    "1e99": lambda: each({mode: [y * 1e99 for y in FALL] for mode in THREE}),
    "from 1e-12 to 1e12": lambda: run([10.0**nth for nth in range(-12, 13)]),
    "all equal": lambda: each(dict.fromkeys(THREE, [0.7] * 30)),
    "equal but for rounding": lambda: run([1.0, 1.0 + 2e-16, 1.0]),
    "large and nearly equal": lambda: run([123456.0, 123456.5, 123457.0]),
    "zeros": lambda: run([0.0] * 10),
    "negative": lambda: each({"zero_grad": [-3.0, -5.0, -70.0], "halve_grad": [-3.0, -4.0, -6.0]}),
    "100,000 noisy steps": lambda: each({"zero_grad": noisy(100_000), "no_zero_grad": noisy(100_000, 1, 3)}),
    "100,000 smooth steps": lambda: run([1 / (1 + nth) for nth in range(100_000)]),
    "500 noisy steps": lambda: each({mode: noisy(500, nth, nth) for nth, mode in enumerate(THREE)}),
    "40 seeds": lambda: _seeds(40),
    "two seeds, one diverging": lambda: [*run(FALL), *run([5.0, 1e9, 1e20, 1e30, 1e40, 1e50], seed=2)],
    "1,000 epochs": lambda: each({mode: [5 / (1 + nth) for nth in range(4000)] for mode in THREE[:2]}, per_epoch=4),
    "two experiments of other losses": lambda: _two(
        {"experiment": "straight_line", "task_options": {"loss": "l1"}},
        {"experiment": "straight_line_mse", "task_options": {"loss": "mse"}},
    ),
    "two learning rates": lambda: _two({"title": ""}, {"optimizer": {"name": "SGD", "lr": 0.1}}),
    "a long title": lambda: run(FALL, title="A title of many words " * 9),
    "a title of one word": lambda: run(FALL, title="Donaudampfschifffahrtsgesellschaftskapitänspatent" * 2),
    "no title and formulas": lambda: run(FALL, "$x^2$", experiment="$\\frac{1}{2", title=""),
    "lengths of 1 and 100": lambda: each({"zero_grad": [3.0], "halve_grad": [4.0 - nth / 30 for nth in range(100)]}),
}  # fmt: skip
