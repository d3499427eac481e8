"""Arguments of gradlab.run and gradlab.sweep become those of the experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import gradlab
from gradlab.api import arguments
from gradlab.errors import ExperimentError
from tests.api.making import short

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("given", "seeds"), [({"seeds": 3}, [0, 1, 2]), ({"seeds": [4, 7]}, [4, 7]), ({"seed": 5}, [5]), ({}, [42])]
)
def test_an_int_for_seeds_means_zero_to_n_minus_one(given: dict[str, Any], seeds: list[int]) -> None:
    assert short(**given).seeds == seeds


def test_a_file_may_give_the_number_of_seeds(folder: Path) -> None:
    (folder / "mine.toml").write_text('task = "noisy_line"\nsteps = 2\nseeds = 2\n')
    assert gradlab.run("mine.toml", quiet=True).seeds == [0, 1]
    with pytest.raises(ExperimentError, match="seeds must be a list, or the number of seeds from 1 to 100,000, got 0"):
        gradlab.run(folder / "mine.toml", seeds=0)


def test_tables_and_short_keys_reach_the_experiment() -> None:
    given: dict[str, Any] = {
        "optimizer": {"name": torch.optim.Adam, "betas": (0.5, np.float64(0.9))}, "keep": 0.25, "batch_size": None,
        "task_options": {"samples": 10}, "clip_norm": np.float32(1.0),
    }  # fmt: skip
    with arguments.chosen_experiment("run", None, "noisy_line", arguments.overrides_in(given)) as chosen:
        assert chosen.optimizer.options == {"lr": 0.01, "betas": [0.5, 0.9]}
        assert (chosen.optimizer.name, chosen.modes, chosen.clip_norm) == ("Adam", ["keep=0.25,every=1"], 1.0)
        assert chosen.task_options == {"samples": 10}


def test_modes_are_words_or_modes() -> None:
    result = short(modes=[gradlab.modes.decay(0.5), "No-Zero-Grad"])
    assert result.modes == ["decay:0.5", "no_zero_grad"]
    assert short(modes="halve_grad").modes == ["halve_grad"]


def test_a_mode_in_a_file_keeps_its_path(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "own.py").write_text("def clip(parameters, update): pass\n")
    mode = gradlab.modes.parse("deep/own.py:clip,every=2")
    assert short(modes=mode).modes == ["own.py:clip,every=2"]


def test_values_of_an_axis_are_written_as_toml() -> None:
    vary = {
        "lr": np.array([0.1, 0.2]),
        "optimizer.betas": [[0.5, 0.9], [0.1, 0.2]],
        "optimizer.nesterov": [True],
        "a": 3,
    }
    assert arguments.axis_texts({**vary, "task": ["x", "y"], "keep": "0:1:5"}) == [
        "lr=0.1,0.2",
        "optimizer.betas=[0.5, 0.9],[0.1, 0.2]",
        "optimizer.nesterov=true",
        "a=3",
        'task="x","y"',
        "keep=0:1:5",
    ]
