"""Titles and file names of figures: those of the experiment, as long as they hold for what is drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gradlab import experiment
from gradlab.experiment import Override, overrides_of
from gradlab.plotting import picture_name
from gradlab.plotting.headings import heading_of
from tests.gallery import FALL, TITLE, run

if TYPE_CHECKING:
    from gradlab.store import RunRecord

MODES = ["zero_grad", "no_zero_grad"]


def record(mode: str = "zero_grad", seed: int = 1, lr: float = 0.1, **more: Any) -> RunRecord:
    """Return the record of a run, with the modes of its command."""
    modes, match_lr = more.pop("modes", []), more.pop("match_lr", None)
    ((found, _),) = run(FALL, mode, seed, optimizer={"name": "SGD", "lr": lr}, **more)
    return replace(found, modes=modes, match_lr=match_lr)


def test_a_title_holds_if_all_modes_of_the_command_are_drawn() -> None:
    both = [record(mode, modes=MODES) for mode in MODES]
    assert heading_of(both) == TITLE
    assert heading_of(both[:1]) == "diverging_loss"
    assert heading_of([*both, record("decay:0.9", title="", modes=["decay:0.9"])]) == TITLE


def test_a_title_does_not_hold_for_runs_with_other_settings() -> None:
    both = [record(mode, modes=MODES) for mode in MODES]
    other = [record(mode, lr=1.0, title="", modes=MODES) for mode in MODES]
    assert heading_of(other) == "diverging_loss"
    assert heading_of([*both, *other]) == "diverging_loss"


def test_matched_learning_rates_are_one_experiment() -> None:
    runs = [record("zero_grad", lr=0.1, match_lr=True), record("halve_grad", lr=0.05, match_lr=True, title="")]
    assert heading_of(runs) == TITLE


@pytest.mark.parametrize(
    ("flags", "holds"),
    [
        ([], True),
        (["lr=0.00067"], True),
        (["optimizer.name=SGD"], True),
        (["seeds=[1]"], True),
        (["epochs=9"], True),
        (["lr=1.0"], False),
        (["task_options.noise=2.0"], False),
        (["optimizer.momentum=0.9"], False),
        (["optimizer.name=adam"], False),
        (["schedule=cosine"], False),
        (["keep=0.9"], False),
    ],
)
def test_overrides_that_change_what_is_trained_drop_the_title(flags: list[str], holds: bool) -> None:
    found = experiment.load("diverging_loss", overrides_of(flags))
    assert found.title == (TITLE if holds else "")


@pytest.mark.parametrize(
    ("modes", "holds"),
    [
        (["zero-grad", "no-zero-grad", "halve_grad"], True),
        (["halve_grad", "zero_grad", "no_zero_grad", "decay:0.9"], True),
        (["decay:0.9"], False),
        (["zero_grad", "halve_grad"], False),
    ],
)
def test_a_title_needs_the_modes_of_its_file(modes: list[str], holds: bool) -> None:
    found = experiment.load("diverging_loss", [Override(("modes",), modes, "--mode")])
    assert found.title == (TITLE if holds else "")


def test_a_picture_is_named_after_what_distinguishes_its_runs() -> None:
    tenth, whole = [record(mode) for mode in MODES], [record(mode, lr=1.0) for mode in MODES]
    assert picture_name(tenth, [], "loss") == "loss"
    assert picture_name(tenth, [record("halve_grad", seed=3)], "loss") == "loss"
    assert picture_name(tenth, whole, "loss") == "loss-lr-0.1"
    assert picture_name(whole, tenth, "accuracy") == "accuracy-lr-1"
    assert picture_name([*tenth, *whole], [], "loss") == "loss-by-lr"
    assert picture_name([*tenth, record(experiment="other")], [], "loss") == "loss-by-experiment"


def test_two_settings_never_share_a_name() -> None:
    runs = [record(lr=lr, task_options={"batch_size": size}) for lr in (0.1, 1.0) for size in (1, 40)]
    names = {picture_name([each], [other for other in runs if other is not each], "loss") for each in runs}
    assert names == {f"loss-lr-{lr}-batch_size-{size}" for lr in ("0.1", "1") for size in (1, 40)}
    long = [record(task_options={"words": letter * 300}) for letter in "ab"]
    names = {picture_name([each], [other for other in long if other is not each], "loss") for each in long}
    assert len(names) == 2
    assert all(len(name) <= 100 for name in names)
