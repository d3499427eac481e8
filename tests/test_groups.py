"""Groups: which runs an experiment's folder stands for, found from the record of each run alone."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gradlab.analysis.groups import newest_group
from gradlab.errors import StoreError
from gradlab.store import ExperimentFolder, RunFolder, RunRecord

SETTINGS: dict[str, Any] = {
    "task": "noisy_line",
    "task_source": None,
    "task_options": {"samples": 4},
    "optimizer": {"name": "SGD", "lr": 0.02},
    "epochs": 2,
    "device": "cpu",
    "threads": 1,
}
MODES = ["zero_grad", "no_zero_grad", "halve_grad"]
EXPERIMENT = ExperimentFolder(Path("runs/line"))


def started(second: int) -> str:
    return f"2026-01-01T00:00:{second:02}+00:00"


def write(
    name: str, mode: str = "zero_grad", seed: int = 1, second: int = 0, *, settings: Any = SETTINGS, **record: Any
) -> RunFolder:
    """Write a run as a command with the three usual modes leaves it, unless the record says otherwise."""
    folder = RunFolder(EXPERIMENT.path / name)
    folder.make()
    found = RunRecord("line", mode, seed, name, settings | {"mode": mode, "seed": seed}, "done",
                      started=started(second), modes=MODES, match_lr=False)  # fmt: skip
    folder.write(replace(found, **record))
    return folder


def shown() -> list[str]:
    return [run.path.name for run in newest_group(EXPERIMENT).runs]


def test_runs_that_differ_in_mode_and_seed_are_one_group() -> None:
    for mode in MODES:
        write(f"{mode}10", mode, 10)
        write(f"{mode}9", mode, 9, 1)
    assert shown() == [f"{mode}{seed}" for mode in MODES for seed in (9, 10)]
    assert newest_group(EXPERIMENT).others == 0


@pytest.mark.parametrize(
    "change",
    [
        {"task": "digits"},
        {"task_source": "0123"},
        {"task_options": {"samples": 5}},
        {"optimizer": {"name": "SGD", "lr": 0.01}},
        {"optimizer": {"name": "SGD", "lr": 0.02, "momentum": 0.5}},
        {"epochs": 3},
        {"steps": 2},
        {"engine": "ensemble"},
        {"device": "cuda"},
        {"threads": 2},
        {"clip_norm": 1.0},
    ],
    ids=str,
)
def test_runs_with_other_settings_are_counted(change: dict[str, Any]) -> None:
    write("old", "halve_grad")
    write("new", second=1, settings=SETTINGS | change)
    assert (shown(), newest_group(EXPERIMENT).others) == (["new"], 1)


def test_the_version_of_torch_is_no_setting() -> None:
    write("old", seed=1, versions={"torch": "2.4"})
    write("new", seed=2, second=1, versions={"torch": "2.5"})
    assert shown() == ["old", "new"]


def test_the_group_with_the_latest_start_is_shown() -> None:
    write("late", second=9)
    write("early", second=8, settings=SETTINGS | {"epochs": 3})
    write("first", seed=2, second=0)
    assert shown() == ["late", "first"]


def test_of_starts_in_one_second_the_record_written_last_counts() -> None:
    one, other = write("one"), write("other", settings=SETTINGS | {"epochs": 3})
    os.utime(one.record_file, (2000, 2000))
    os.utime(other.record_file, (1000, 1000))
    assert shown() == ["one"]


def test_runs_under_way_are_of_the_group() -> None:
    write("done", seed=1)
    running = write("running", seed=2, second=1)
    with running.log():
        running.write(replace(running.read(), status="running"))
        assert shown() == ["done", "running"]
    write("failed", seed=3, second=2, status="failed")
    assert shown() == ["done", "running", "failed"]


def test_the_group_of_given_runs_ignores_later_starts() -> None:
    old, _ = write("old"), write("old too", seed=2)
    write("new", second=1, settings=SETTINGS | {"epochs": 3})
    assert [run.path.name for run in newest_group(EXPERIMENT, [old]).runs] == ["old", "old too"]


def test_a_damaged_record_is_named() -> None:
    write("whole")
    write("damaged").record_file.write_text("{half")
    with pytest.raises(StoreError, match=r"damaged/run\.json is not JSON"):
        newest_group(EXPERIMENT)


def test_a_copied_folder_is_not_a_second_run() -> None:
    write("run")
    write("run-copy", second=1)
    assert (shown(), newest_group(EXPERIMENT).others) == (["run-copy"], 1)


def test_your_own_mode_is_shown_by_its_newest_source() -> None:
    for seed, source in [(1, "old"), (2, "old"), (1, "new")]:
        write(f"{source}{seed}", "mine.py:clear", seed, source == "new", settings=SETTINGS | {"mode_source": source})
    write("zero")
    assert shown() == ["zero", "new1"]


def test_hundreds_of_runs_are_read_within_a_second() -> None:
    content = write("0").record_file.read_text()
    for seed in range(1, 500):
        folder = EXPERIMENT.path / f"{seed}"
        folder.mkdir()
        (folder / "run.json").write_text(content.replace('"seed": 1', f'"seed": {seed + 1}'))
    begin = time.process_time()
    assert len(shown()) == 500
    assert time.process_time() - begin < 1


# In which order


def test_the_order_is_that_of_the_command_with_most_modes() -> None:
    write("halve", "halve_grad", modes=["halve_grad"])
    write("decay", "decay:0.9", second=1, modes=["decay:0.9"])
    write("no", "no_zero_grad", second=2)
    write("zero", second=3, modes=["zero_grad"])
    assert shown() == ["zero", "no", "halve", "decay"]


def test_of_commands_with_as_many_modes_the_latest_has_the_order() -> None:
    write("zero", modes=["zero_grad", "halve_grad"])
    write("halve", "halve_grad", second=1, modes=["halve_grad", "zero_grad"])
    assert shown() == ["halve", "zero"]


def test_commands_with_one_mode_each_are_shown_as_started() -> None:
    for second, mode in enumerate(reversed(MODES)):
        write(mode, mode, second=second, modes=[mode])
    assert shown() == MODES[::-1]


# Where runs that were done are asked for again


def test_a_command_that_finds_all_done_shows_their_group() -> None:
    old = write("old")
    write("new", second=1, settings=SETTINGS | {"epochs": 3})
    EXPERIMENT.save_request([old], MODES, match_lr=False)
    assert (shown(), newest_group(EXPERIMENT).others) == (["old"], 1)


def test_a_mode_of_the_user_asked_for_again_is_the_one_shown() -> None:
    old = write("old", "um.py:f", settings=SETTINGS | {"mode_source": "1"})
    write("new", "um.py:f", second=1, settings=SETTINGS | {"mode_source": "2"})
    EXPERIMENT.save_request([write("zero"), old], ["zero_grad", "um.py:f"], match_lr=False)
    assert shown() == ["zero", "old"]


def test_a_run_started_after_that_shows_its_own_group() -> None:
    old = write("old")
    EXPERIMENT.save_request([old], MODES, match_lr=False)
    write("new", settings=SETTINGS | {"epochs": 3}, started="2100-01-01T00:00:00+00:00")
    assert shown() == ["new"]


def test_a_group_asked_for_again_is_whole_and_in_the_new_order() -> None:
    zero, _ = write("zero"), write("no", "no_zero_grad", 2, 1)
    EXPERIMENT.save_request([zero], ["no_zero_grad", "zero_grad", "halve_grad"], match_lr=False)
    assert shown() == ["no", "zero"]


def test_a_link_or_pipe_for_experiment_json_is_not_read() -> None:
    write("old")
    write("new", second=1, settings=SETTINGS | {"epochs": 3})
    EXPERIMENT.save_request([RunFolder(EXPERIMENT.path / "old")], MODES, match_lr=False)
    EXPERIMENT.request_file.rename("elsewhere")
    EXPERIMENT.request_file.symlink_to(Path("elsewhere").absolute())
    assert shown() == ["new"]
    EXPERIMENT.request_file.unlink()
    os.mkfifo(EXPERIMENT.request_file)
    assert shown() == ["new"]


# Matched learning rates


def matched(lr: float) -> dict[str, Any]:
    return SETTINGS | {"optimizer": {"name": "SGD", "lr": lr}}


def test_matched_learning_rates_are_one_setting() -> None:
    write("zero", settings=matched(0.02))
    write("decay", "decay:0.9", second=1, settings=matched(0.002), match_lr=True)
    write("halve", "halve_grad", settings=matched(0.01), match_lr=True)
    write("plain", "halve_grad", settings=matched(0.02))
    write("no", "no_zero_grad", settings=matched(0.02))
    assert (shown(), newest_group(EXPERIMENT).others) == (["zero", "halve", "decay"], 2)


def test_learning_rates_that_match_by_chance_are_two_settings() -> None:
    write("zero", settings=matched(0.02))
    write("halve", "halve_grad", second=1, settings=matched(0.01))
    assert shown() == ["halve"]
