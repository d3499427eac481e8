"""Scripts under an imposed mode against the same trainings by hand: bit for bit the same losses."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.comparison.by_hand import trainers, training
from tests.comparison.imposed_runs import run_script

if TYPE_CHECKING:
    from pathlib import Path

WORDS = {"zero": "zero_grad", "never": "no_zero_grad", "half": "halve_grad"}
QUICK = ("adam", "scaler_clip")


def as_param(variant: str) -> object:
    return pytest.param(variant, marks=() if variant in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("variant", [as_param(each) for each in training.VARIANTS])
@pytest.mark.parametrize("way", training.WAYS)
def test_imposed_losses_are_those_by_hand(way: str, variant: str, tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(training.script(way, variant), encoding="utf-8")
    runs = [run_script(file, word) for word in WORDS.values()]
    assert [run.left["losses"] for run in runs] == [training.by_hand(way, variant, mode) for mode in WORDS]
    assert [run.losses for run in runs] == [run.left["losses"] for run in runs]  # without the scale of a GradScaler
    assert [run.imposed for run in runs] == ["yes"] * 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the frameworks' own
@pytest.mark.parametrize("trainer", trainers.TRAINERS)
def test_losses_under_a_trainer_are_those_by_hand(
    trainer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec(trainer) is None:
        pytest.skip(f"needs {trainer}")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "train.py"
    file.write_text(trainers.script(trainer), encoding="utf-8")
    runs = [run_script(file, word) for word in WORDS.values()]
    assert [run.left["losses"] for run in runs] == [trainers.by_hand(trainer, mode) for mode in WORDS]
    assert [run.losses for run in runs] == [run.left["losses"] for run in runs]
    assert [(run.imposed, run.rows[-1].epoch) for run in runs] == [("yes", 4)] * 3
