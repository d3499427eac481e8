"""What experiments/README.md says of the shipped experiments is what they do."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest

from gradlab import curves, experiment, runs
from gradlab.modes import Mode, parse

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
WITH = ["1.5", "1.4", "1.3", "1.2"]
WITHOUT = ["1.4", "1.9", "2.0", "2.8", "3.5"]


def epoch_means() -> dict[str, list[float]]:
    outcome = runs.run(experiment.load("diverging_loss"))
    return {run.mode: curves.epoch_means(run.rows) for run in outcome.runs}


def test_the_diverging_loss_is_that_of_the_example_to_one_decimal() -> None:
    means = epoch_means()
    assert [f"{mean:.1f}" for mean in means["zero_grad"][:4]] == WITH
    assert [f"{mean:.1f}" for mean in means["no_zero_grad"]] == WITHOUT


def test_the_diverging_loss_is_further_from_the_edge_of_rounding_than_another_cpu_could_move_it() -> None:
    means = epoch_means()
    nine = zip([*means["zero_grad"][:4], *means["no_zero_grad"]], [*WITH, *WITHOUT], strict=True)
    assert max(abs(mean - float(wanted)) for mean, wanted in nine) < 0.05 - 0.02


def test_the_numbers_of_the_diverging_loss_stand_nowhere_in_the_package() -> None:
    for file in EXPERIMENTS.parent.glob("gradlab/**/*.py"):
        assert not re.search(r"1\.5.{0,4}1\.4.{0,4}1\.3", file.read_text(encoding="utf-8")), file


def test_the_unrounded_means_in_the_readme_are_those_of_the_run() -> None:
    text = (EXPERIMENTS / "README.md").read_text(encoding="utf-8")
    for mode, means in epoch_means().items():
        assert f"| `{mode}` | " + " | ".join(f"{mean:.3f}" for mean in means) + " |" in text


@pytest.mark.parametrize(
    ("name", "verdicts"),
    [
        ("diverging_loss", {"zero_grad": ["falls"], "no_zero_grad": ["rises"], "halve_grad": ["falls"]}),
        ("straight_line", {"zero_grad": ["falls"], "no_zero_grad": ["oscillates"], "halve_grad": ["falls"]}),
        ("straight_line_mse", {"zero_grad": ["falls"], "no_zero_grad": ["oscillates"], "halve_grad": ["falls"]}),
        (
            "digits",
            {
                "zero_grad": ["falls"] * 5,
                "no_zero_grad": ["falls", "oscillates", "rises", "rises", "rises"],
                "halve_grad": ["falls"] * 5,
            },
        ),
    ],
)
def test_the_verdicts_are_those_of_the_readme(name: str, verdicts: dict[str, list[str]]) -> None:
    found: dict[str, list[str]] = {}
    for run in runs.run(experiment.load(name)).runs:
        found.setdefault(run.mode, []).append(str(run.verdict))
    assert {mode: sorted(each) for mode, each in found.items()} == verdicts


def test_all_expectations_of_smoke_hold() -> None:
    outcome = runs.run(experiment.load("smoke"))
    assert len(outcome.expectations) == 15
    assert outcome.ok


@pytest.mark.parametrize(("one", "other"), [*combinations(experiment.load("smoke").modes, 2)])
def test_smoke_fails_when_two_modes_are_swapped_in_the_code(
    one: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(word: str) -> Mode:
        asked = parse(word)
        wrong = {one: other, other: one}.get(asked.name)
        return parse(wrong)._replace(name=asked.name) if wrong else asked

    monkeypatch.setattr("gradlab.modes.parse", swapped)
    outcome = runs.run(experiment.load("smoke"))
    assert {each.mode for each in outcome.expectations if not each.ok} == {one, other}
