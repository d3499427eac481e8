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


@pytest.mark.parametrize("variant", map(as_param, training.VARIANTS))
@pytest.mark.parametrize("way", training.WAYS)
def test_imposed_losses_are_those_by_hand(way: str, variant: str, tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text(training.script(way, variant), encoding="utf-8")
    for mode, word in WORDS.items():
        run = run_script(file, word)
        assert run.left["losses"] == training.by_hand(way, variant, mode), mode
        assert run.losses == run.left["losses"]  # without the scale of a GradScaler
        assert run.imposed == "yes"


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
    for mode, word in WORDS.items():
        run = run_script(file, word)
        assert run.left["losses"] == trainers.by_hand(trainer, mode), mode
        assert run.losses == run.left["losses"]
        assert run.imposed == "yes"
        assert max(row.epoch for row in run.rows) == 4
