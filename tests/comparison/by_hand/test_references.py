"""The hand-written references agree with the scripts that they describe."""

import json
import math
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from tests.comparison.by_hand import trainers, training


def losses_of(source: str, folder: Path) -> list[float]:
    (folder / "train.py").write_text(source)
    subprocess.run([sys.executable, "train.py"], cwd=folder, check=True, capture_output=True)
    losses: list[float] = json.loads((folder / "losses.json").read_text())
    return losses


def exec_losses(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    monkeypatch.chdir(folder)
    with torch.random.fork_rng(devices=[]):
        exec(source, {"__name__": "__main__"})  # noqa: S102  a script of this folder
    losses: list[float] = json.loads((folder / "losses.json").read_text())
    return losses


@pytest.mark.parametrize("variant", training.VARIANTS)
@pytest.mark.parametrize("way", training.WAYS)
def test_zero_is_the_script(way: str, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = exec_losses(training.script(way, variant), tmp_path, monkeypatch)
    assert len(losses) == 40
    assert training.by_hand(way, variant, "zero") == losses


@pytest.mark.parametrize("variant", training.VARIANTS)
@pytest.mark.parametrize("mode", training.MODES)
def test_the_way_of_clearing_does_not_matter(variant: str, mode: str) -> None:
    first, *rest = (training.by_hand(way, variant, mode) for way in training.WAYS)
    assert all(math.isfinite(loss) for loss in first)
    assert rest == [first] * 6


@pytest.mark.parametrize("variant", training.VARIANTS)
def test_modes_differ(variant: str) -> None:
    runs = [tuple(training.by_hand("top_of_loop", variant, mode)) for mode in training.MODES]
    assert len(set(runs)) == 3


@pytest.mark.parametrize("variant", ["sgd", "sgd_steplr", "bf16", "scaler", "scaler_off"])
@pytest.mark.parametrize("mode", ["never", "half"])
def test_keeping_is_momentum_of_sgd(variant: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without clipping, torch's v = keep * v + g is the same recurrence; scales are powers of two."""
    source = training.script("top_of_loop", variant)
    with_momentum = source.replace("lr=0.0", f"momentum={training.MODES[mode]}, lr=0.0")
    assert with_momentum != source
    assert training.by_hand("top_of_loop", variant, mode) == exec_losses(with_momentum, tmp_path, monkeypatch)


@pytest.mark.parametrize("variant", ["scaler", "scaler_clip"])
@pytest.mark.parametrize("mode", training.MODES)
def test_some_scaled_steps_are_skipped(variant: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scales = []
    update = torch.amp.GradScaler.update

    def recorded_update(scaler: torch.amp.GradScaler) -> None:
        update(scaler)
        scales.append(scaler.get_scale())

    monkeypatch.setattr(torch.amp.GradScaler, "update", recorded_update)
    training.by_hand("top_of_loop", variant, mode)
    falls = [i for i in range(1, 40) if scales[i] < scales[i - 1]]
    rises = [i for i in range(1, 40) if scales[i] > scales[i - 1]]
    assert rises
    assert falls[-1] > rises[0]  # a step is skipped while some gradient is kept


def test_a_script_in_a_process_gives_the_same_losses(tmp_path: Path) -> None:
    losses = losses_of(training.script("grad_zero_loop", "scaler_clip"), tmp_path)
    assert training.by_hand("grad_zero_loop", "scaler_clip", "zero") == losses


@pytest.mark.slow
@pytest.mark.parametrize("trainer", trainers.TRAINERS)
def test_trainers(trainer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(trainer)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs = {mode: trainers.by_hand(trainer, mode) for mode in trainers.MODES}
        assert runs["zero"] == trainers.by_hand(trainer, "zero")
    assert runs["zero"] == losses_of(trainers.script(trainer), tmp_path)
    assert len(set(map(tuple, runs.values()))) == 3
    assert all(math.isfinite(loss) for losses in runs.values() for loss in losses)
