"""The page's own simulation gives the losses of gradlab's training loop, of theory, and the same verdicts."""

from __future__ import annotations

import json
import math
from itertools import islice, product
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from gradlab import Task, curves, tasks, theory, train
from gradlab.modes import parse
from gradlab.pages import HtmlPage, bundle, html_of
from tests.pages.tools import ENTRY, answers_in_node, chromium

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gradlab import Row

# Of the largest loss so far. The page adds in another order than torch, so it differs by some 1e-16 a step.
CLOSE = 1e-12
FULL = 16  # samples
STEPS = 200


class Setting(NamedTuple):
    """A setting of the page, with its defaults."""

    lr: float = 0.02
    keep: float = 1.0
    every: int = 1
    batch: int = 2
    noise: float = 0.5
    curvature: float = 8.0
    steps: int = STEPS
    seed: int = 1
    w1: float = -1.5
    w2: float = 1.5

    @property
    def task(self) -> Task:
        """Return the task that the page simulates."""
        rounds = self.every if (FULL // self.batch) % self.every else 1
        return tasks.two_weights(
            self.seed, self.batch, self.noise, self.curvature, rounds=rounds, w1=self.w1, w2=self.w2
        )

    @property
    def rows(self) -> list[Row]:
        """Return what gradlab trains."""
        mode = f"keep={self.keep},every={self.every}"
        task = self.task
        return list(train(task, mode, torch.optim.SGD(task.model.parameters(), lr=self.lr), steps=self.steps))


SETTINGS = [
    *(Setting(*values) for values in product((0.003, 0.05, 0.3), (0, 0.5, 1), (1, 3), (1, 4, FULL))),
    *(Setting(keep=keep, every=every) for keep in (0.25, 0.9, 0.99) for every in (2, 4, 5, 8)),
    *(Setting(batch=batch, noise=noise, curvature=h) for batch, noise, h in product((1, 8), (0, 2), (1, 32))),
    *(Setting(w1=w1, w2=w2, keep=0.7, seed=seed) for w1, w2, seed in ((1, 0.5, 2), (-2.5, 4, 3), (4.5, -3, 0))),
    Setting(0.25, 0, batch=FULL),
    Setting(0.5, 1, batch=FULL, steps=2000),
    Setting(0.02, 1, batch=FULL, steps=2000),
    Setting(0.002, 1, batch=1, steps=2000),
    Setting(2, 1, batch=1, steps=2000),
]  # fmt: skip
FULL_BATCHES = [
    Setting(lr, keep, every, FULL, curvature=curvature)
    for lr, keep, every, curvature in product((0.01, 0.2, 0.249, 0.3), (0, 0.5, 0.95, 1), (1, 4), (2, 8))
]


def batches_of(batches: Any, steps: int) -> list[list[list[float]]]:
    """Return the first batches of an endless training, each a list of [x1, x2, y]."""

    def forever() -> Iterator[Any]:
        while True:
            yield from batches

    drawn = islice(forever(), steps)
    return [[[*one, target] for one, (target,) in zip(x.tolist(), y.tolist(), strict=True)] for x, y in drawn]


def worst(found: Sequence[float | str], expected: Sequence[float]) -> float:
    """Return the largest difference, relative to the largest loss so far; losses that are not finite must agree."""
    largest, worst = 0.0, 0.0
    assert len(found) == len(expected) > 0
    for one, other in zip(map(float, found), expected, strict=True):
        if not math.isfinite(other) or not math.isfinite(one):
            assert not math.isfinite(one)
            assert not math.isfinite(other)
            break  # what follows an overflow is noise
        largest = max(largest, abs(other))
        worst = max(worst, abs(one - other) / largest)
    return worst


def exported(setting: Setting) -> tuple[str, dict[str, Any]]:
    """Return the question that trains on the batches of Python."""
    training = {"lr": setting.lr, "keep": setting.keep, "every": setting.every, "w1": setting.w1, "w2": setting.w2}
    batches = batches_of(setting.task.batches, setting.steps)
    return "trainOn", {"batches": batches, "epoch": len(setting.task.batches), "training": training}  # type: ignore[arg-type]


@pytest.mark.slow
def test_losses_on_exported_batches_are_those_of_gradlab(folder: Path) -> None:
    found = answers_in_node([exported(each) for each in SETTINGS], folder)
    apart = [worst(losses, [row.loss for row in each.rows]) for each, losses in zip(SETTINGS, found, strict=True)]
    assert max(apart) < CLOSE


def test_losses_on_its_own_batches_are_those_of_gradlab(folder: Path) -> None:
    chosen = [each for each in SETTINGS if each.steps == STEPS][::9]
    found = answers_in_node([("losses", each._asdict()) for each in chosen], folder)
    apart = [worst(losses, [row.loss for row in each.rows]) for each, losses in zip(chosen, found, strict=True)]
    assert max(apart) < CLOSE


@pytest.mark.slow
def test_chromium_computes_what_node_computes(folder: Path) -> None:
    questions = [("losses", each._asdict()) for each in [*SETTINGS, *FULL_BATCHES]]
    script = f"{bundle(ENTRY)}\nglobalThis.answers = answers;\n"
    (folder / "answers.html").write_text(html_of(HtmlPage("answers", "", [], script)))
    with chromium() as browser:
        page = browser.new_page()
        page.goto((folder / "answers.html").as_uri())
        found = json.loads(page.evaluate("questions => answers(questions)", json.dumps(questions)))
    assert found == answers_in_node(questions, folder)


def test_uneven_batches_and_short_windows_are_trained_alike(folder: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    sizes = [3, 1, 5, 2, 4, 1, 7]
    batches = [(torch.randn(n, 2, generator=generator).double(), torch.randn(n, 1).double()) for n in sizes]
    for every, steps in ((1, 40), (3, 40), (4, 41), (9, 40)):
        model = nn.Linear(2, 1, bias=False, dtype=torch.float64)
        w1, w2 = model.weight.tolist()[0]
        task = Task.supervised(model, batches, mse_loss)
        mode = f"keep=-0.25,every={every}"
        rows = train(task, mode, torch.optim.SGD(model.parameters(), lr=0.05), steps=steps)
        training = {"lr": 0.05, "keep": -0.25, "every": every, "w1": w1, "w2": w2}
        given = {"batches": batches_of(batches, steps), "epoch": len(sizes), "training": training}
        expected = [row.loss for row in rows]
        (found,) = answers_in_node([("trainOn", given)], folder)
        assert worst(found, expected) < CLOSE


def test_batches_are_bit_for_bit_those_of_the_task(folder: Path) -> None:
    chosen = [Setting(batch=1, seed=7), Setting(batch=4, every=3, noise=1.7), Setting(batch=FULL, curvature=31.9)]
    found = answers_in_node([("batches", each._asdict()) for each in chosen], folder)
    assert found == [batches_of(each.task.batches, each.steps) for each in chosen]


def test_full_batches_follow_theory(folder: Path) -> None:
    asked = [each._asdict() for each in FULL_BATCHES]
    closed = answers_in_node([("closedForm", each) for each in asked], folder)
    losses = answers_in_node([("losses", each) for each in asked], folder)
    apart = []
    for each, by_formula, simulated in zip(FULL_BATCHES, closed, losses, strict=True):
        expected = theory.loss_trajectory(
            each.lr, [each.curvature, 1], each.keep, each.steps - 1, by_formula["errors"], by_formula["floor"]
        )
        stretched = [expected[step // each.every] for step in range(each.steps)]
        apart += [worst(simulated, stretched), worst(by_formula["losses"], stretched)]
    assert max(apart) < CLOSE


@pytest.mark.slow
def test_verdicts_are_those_of_gradlab(folder: Path) -> None:
    chosen = [*SETTINGS, *FULL_BATCHES, *(Setting(seed=seed, steps=100) for seed in range(20))]
    found = answers_in_node([("verdict", each._asdict()) for each in chosen], folder)
    expected = [curves.verdict(each.rows) for each in chosen]
    assert set(expected) == {"falls", "rises", "oscillates", "diverges", "flat"}
    assert found == expected


def test_an_overflow_is_reported_with_its_step(folder: Path) -> None:
    setting = Setting(lr=2, steps=300)
    (path,) = answers_in_node([("path", setting._asdict())], folder)
    first = next(row.step for row in setting.rows if not math.isfinite(row.loss))
    assert path["diverged"] == first > 0


def test_weights_follow_torch_momentum(folder: Path) -> None:
    setting = Setting(keep=0.9)
    (path,) = answers_in_node([("path", setting._asdict())], folder)
    task = setting.task
    optimizer = torch.optim.SGD(task.model.parameters(), lr=setting.lr, momentum=0.9)
    losses = [row.loss for row in train(task, "zero_grad", optimizer, steps=STEPS)]
    assert worst(path["losses"], losses) < CLOSE
    (weights,) = task.model.parameters()
    assert torch.allclose(weights, torch.tensor([[path["w1"][-1], path["w2"][-1]]], dtype=torch.float64), rtol=1e-10)


def test_modes_of_the_page_have_its_keep_and_every(folder: Path) -> None:
    chosen = [(keep, every) for keep in (0, 1, 0.5, 0.9, 0.25) for every in (1, 4)]
    words = answers_in_node([("mode", {"keep": keep, "every": every}) for keep, every in chosen], folder)
    assert words[:2] == ["zero_grad", "accumulate:4"]
    assert [(parse(word).keep, parse(word).every, parse(word).mean) for word in words] == [
        (keep, every, True) for keep, every in chosen
    ]
