"""Settings of the page: limits, the URL, code and command."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from gradlab.cli import app
from tests.pages.test_simulation import CLOSE, Setting, worst
from tests.pages.tools import answers_in_node

if TYPE_CHECKING:
    from pathlib import Path

CHOSEN = [
    Setting(steps=100),
    Setting(keep=0, every=4, steps=100),
    Setting(keep=0.5, batch=16, every=3, noise=1.5, seed=4, steps=100),
    Setting(keep=0.9, batch=1, curvature=20.5, w1=0, w2=-2.75, steps=100),
]


def code_of(setting: Setting, folder: Path) -> list[dict[str, str]]:
    (lines,) = answers_in_node([("code", setting._asdict())], folder)
    found: list[dict[str, str]] = lines
    return found


@pytest.mark.parametrize("setting", CHOSEN, ids=["forgotten", "accumulate", "halve", "decay"])
def test_the_code_on_the_page_trains_what_it_simulates(setting: Setting, folder: Path) -> None:
    names: dict[str, Any] = {}
    exec("\n".join(line["text"] for line in code_of(setting, folder)), names)  # noqa: S102 - the page's own code
    (path,) = answers_in_node([("path", setting._asdict())], folder)
    assert worst(path["losses"], names["losses"]) < CLOSE
    # after the last window, even if the steps end within it
    assert names["model"].weight.tolist()[0] == pytest.approx([path["w1"][-1], path["w2"][-1]], rel=1e-10)


@pytest.mark.parametrize("setting", CHOSEN, ids=["forgotten", "accumulate", "halve", "decay"])
def test_the_command_on_the_page_trains_what_it_simulates(setting: Setting, folder: Path) -> None:
    command, losses = answers_in_node([("command", setting._asdict()), ("losses", setting._asdict())], folder)
    assert command.startswith("gradlab run --task two_weights -m ")
    done = CliRunner().invoke(app, [*shlex.split(command)[1:], "--quiet"])
    assert done.exit_code == 0, done.output
    (log,) = folder.glob("runs/*/*/metrics.jsonl")
    rows = [json.loads(line)["loss"] for line in log.read_text().splitlines()]
    assert worst(losses, rows) < CLOSE


def test_the_last_window_is_as_short_as_the_steps_leave_it(folder: Path) -> None:
    windows = code_of(CHOSEN[2], folder)[-6:]
    assert [line["text"].strip() for line in windows[1:3]] == [
        "(loss / (3 if step <= 99 else 1)).backward()",
        "if step % 3 == 0 or step == 100:",
    ]


def test_the_loop_is_seven_lines_and_eight_with_windows(folder: Path) -> None:
    loops = [[line for line in code_of(each, folder) if line["part"] != "setup"] for each in CHOSEN]
    assert [len(loop) for loop in loops] == [7, 8, 8, 7]
    clearing = [line["text"].strip() for loop in loops for line in loop if line["part"] == "clear"]
    assert clearing == [
        "# nothing: .grad stays as it is",
        "optimizer.zero_grad()",
        "model.weight.grad /= 2",
        "model.weight.grad *= 0.9",
    ]


def test_a_setting_survives_the_url(folder: Path) -> None:
    hashes = answers_in_node([("toHash", each._asdict()) for each in [Setting(), *CHOSEN]], folder)
    assert hashes[:3] == ["", "steps=100", "keep=0&every=4&steps=100"]
    found = answers_in_node([("fromHash", f"#{text}") for text in hashes], folder)
    assert found == [each._asdict() for each in [Setting(), *CHOSEN]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#lr=99&keep=-3&every=0&batch=3&steps=1e9", {"lr": 2, "keep": 0, "every": 1, "batch": 2, "steps": 2000}),
        ("#lr=nan&keep=&batch=%00&w1=x", {}),
        ("#lr=Infinity&w2=-Infinity&seed=2.6", {"lr": 2, "w2": -3, "seed": 3}),
        ("#lr=0.0123456&keep=0.33333&noise=1.239", {"lr": 0.0123, "keep": 0.333, "noise": 1.24}),
        ("#__proto__=1&constructor=2&<script>=3&keep=1e-9", {"keep": 0}),
    ],
)
def test_a_url_is_clamped_and_unknown_parts_left_out(text: str, expected: dict[str, float], folder: Path) -> None:
    (found,) = answers_in_node([("fromHash", text)], folder)
    assert found == {**Setting()._asdict(), **expected}


def test_defaults_and_presets_lie_within_the_limits(folder: Path) -> None:
    (known,) = answers_in_node([("defaults", None)], folder)
    assert known["setting"] == Setting()._asdict()
    assert list(known["presets"]) == ["forgotten", "halving", "accumulate", "momentum", "broken", "edge"]
    settings = [{**known["setting"], **change} for change in known["presets"].values()]
    questions = [("clamp", {"name": name, "value": value}) for each in settings for name, value in each.items()]
    assert answers_in_node(questions, folder) == [given["value"] for _, given in questions]


def test_presets_do_what_their_names_promise(folder: Path) -> None:
    (known,) = answers_in_node([("defaults", None)], folder)
    verdicts = answers_in_node([("verdict", change) for change in known["presets"].values()], folder)
    assert verdicts == ["rises", "falls", "falls", "falls", "diverges", "falls"]
    edge = {**known["setting"], **known["presets"]["edge"]}
    assert edge["lr"] * edge["curvature"] == 2 * (1 + edge["keep"])


def test_answers_of_the_quiz_are_what_the_simulation_shows(folder: Path) -> None:
    (known,) = answers_in_node([("defaults", None)], folder)
    questions = known["questions"]
    assert [each["id"] for each in questions] == ["full", "mini", "half", "stable"]
    verdicts = answers_in_node([("verdict", each["setting"]) for each in questions], folder)
    assert verdicts == [each["answer"] for each in questions]
    cleared = {**questions[3]["setting"], "keep": 0}
    assert answers_in_node([("verdict", cleared)], folder) == ["diverges"]  # as question 4 says
