"""Names that completion shows, and words of messages for the caller."""

from __future__ import annotations

import gradlab
from gradlab import wording
from gradlab.runs import StoppedError


def test_completion_shows_only_public_names() -> None:
    assert dir(gradlab) == sorted(gradlab.__all__)
    assert dir(gradlab.audit) == ["GradientWarning", "Report", "warn", "watch"]


def test_options_are_named_as_the_caller_writes_them() -> None:
    names = [("max_steps", 3), ("in_place", True)]
    assert [wording.option(*each) for each in names] == ["--max-steps 3", "--in-place"]
    with wording.words_of_python():
        assert [wording.option(*each) for each in names] == ["max_steps=3", "in_place=True"]
    assert wording.option("fresh") == "--fresh"


def test_a_stop_says_how_the_caller_continues() -> None:
    stopped = StoppedError("stopped after 3 steps", "continues from there", fresh=True)
    assert str(stopped) == "stopped after 3 steps; the same command without --fresh continues from there"
    with wording.words_of_python():
        assert str(stopped) == "stopped after 3 steps; the same call without fresh=True continues from there"
    assert str(StoppedError("stopped")) == "stopped"
