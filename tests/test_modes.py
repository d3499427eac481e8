"""Modes: every spelling of one, what it builds, and what is said of a word that names none."""

from __future__ import annotations

import math
import pickle
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradlab import modes, tasks
from gradlab.errors import ModeError, TaskError
from gradlab.modes import Mode, parse
from tests.table import MODES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# The design's table and every other way to write it, with its name, keep, every, mean and fill.
SPELLINGS = [
    ("zero_grad", Mode("zero_grad", 0.0, 1, True, False)),
    ("zero_grad:fill", Mode("zero_grad:fill", 0.0, 1, True, True)),
    ("no_zero_grad", Mode("no_zero_grad", 1.0, 1, True, False)),
    ("halve_grad", Mode("halve_grad", 0.5, 1, True, False)),
    ("decay:0.9", Mode("decay:0.9", 0.9, 1, True, False)),
    ("decay:.9", Mode("decay:0.9", 0.9, 1, True, False)),
    ("decay:0", Mode("decay:0", 0.0, 1, True, False)),
    ("decay:1.0", Mode("decay:1", 1.0, 1, True, False)),
    ("decay:1e-3", Mode("decay:0.001", 0.001, 1, True, False)),
    ("accumulate:4", Mode("accumulate:4", 0.0, 4, True, False)),
    ("accumulate:04", Mode("accumulate:4", 0.0, 4, True, False)),
    ("accumulate:4:sum", Mode("accumulate:4:sum", 0.0, 4, False, False)),
    ("accumulate:4:means", Mode("accumulate:4:means", 0.0, 4, True, False, True)),
    ("keep=0.5,every=4:means", Mode("keep=0.5,every=4:means", 0.5, 4, True, False, True)),
    ("keep=0.5,every=4", Mode("keep=0.5,every=4", 0.5, 4, True, False)),
    ("every=4,keep=0.5", Mode("keep=0.5,every=4", 0.5, 4, True, False)),
    ("keep=0.5,every=4:sum", Mode("keep=0.5,every=4:sum", 0.5, 4, False, False)),
    ("every=4,keep=0.5:sum", Mode("keep=0.5,every=4:sum", 0.5, 4, False, False)),
    ("keep=0.5", Mode("keep=0.5,every=1", 0.5, 1, True, False)),
    ("every=4", Mode("keep=0,every=4", 0.0, 4, True, False)),
    ("keep=-0.25,every=3:sum", Mode("keep=-0.25,every=3:sum", -0.25, 3, False, False)),
    ("keep=2", Mode("keep=2,every=1", 2.0, 1, True, False)),
    ("keep=1e300", Mode("keep=1e+300,every=1", 1e300, 1, True, False)),
]

BUILT = st.one_of(
    st.builds(modes.decay, st.floats(0, 1)),
    st.builds(modes.accumulate, st.integers(1, 999_999_999), mean=st.booleans()),
    st.builds(
        modes.rule,
        st.floats(allow_nan=False, allow_infinity=False),
        st.integers(1, 999_999_999),
        mean=st.booleans(),
    ),
    st.sampled_from([modes.zero_grad(), modes.zero_grad(fill=True), modes.no_zero_grad(), modes.halve_grad()]),
)


@pytest.mark.parametrize(("word", "mode"), SPELLINGS)
def test_a_spelling_names_its_mode(word: str, mode: Mode) -> None:
    assert parse(word) == mode


@pytest.mark.parametrize("word", [word for word, _ in SPELLINGS])
def test_spelling_ignores_case_spaces_and_minus_or_underscore(word: str) -> None:
    dashed = word.replace("_", "-")
    assert parse(dashed) == parse(word.upper()) == parse(dashed.title()) == parse(f" {word} ") == parse(word)


@pytest.mark.parametrize("word", MODES)
def test_the_table_of_modes_is_written_in_canonical_names(word: str) -> None:
    assert parse(word).name == word


LISTED = [word for word in modes.WORDS if word != "FILE.py:NAME"]  # that one is not ours


@pytest.mark.parametrize("word", LISTED)
def test_every_listed_word_with_its_number_names_a_mode(word: str) -> None:
    said = word.replace("K", "0.25").replace("N", "3")
    assert parse(said).name == said


def test_the_table_of_modes_has_every_word_that_is_listed() -> None:
    shapes = {re.sub(r"-?\d[\d.]*", "#", word).removesuffix(":sum").removesuffix(":means") for word in MODES}
    assert shapes == {re.sub(r"[KN]\b", "#", word) for word in LISTED}


def test_the_default_modes_are_the_three_that_are_compared() -> None:
    assert modes.DEFAULT == ("zero_grad", "no_zero_grad", "halve_grad")


@given(BUILT)
def test_the_name_of_a_mode_names_it(mode: Mode) -> None:
    assert parse(mode.name) == mode


@given(BUILT, BUILT)
def test_different_modes_have_different_names(one: Mode, other: Mode) -> None:
    assert (one == other) == (one.name == other.name)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: Mode("no_zero_grad"),
            "'no_zero_grad' has keep=1.0, not 0.0. Use gradlab.modes.parse('no_zero_grad').",
        ),
        (lambda: Mode("No-Zero-Grad"), "mode 'No-Zero-Grad' has keep=1.0, not 0.0"),
        (lambda: Mode("zero_grad", keep=0.5), "mode 'zero_grad' has keep=0.0, not 0.5"),
        (lambda: Mode("zero_grad", fill=True), "has fill=False, not True"),
        (lambda: Mode("zero_grad:fill"), "has fill=True, not False"),
        (lambda: Mode("accumulate:4"), "has every=4, not 1"),
        (lambda: Mode("accumulate:4:sum", every=4), "has mean=False, not True"),
        (lambda: Mode("decay:0.9", 0.8), "mode 'decay:0.9' has keep=0.9, not 0.8"),
        (lambda: Mode("decay:2", 2.0), "decay must be between 0 and 1"),
        (lambda: Mode("keep=0.5,every=4", 0.5), "has every=4, not 1"),
        (lambda: modes.halve_grad()._replace(keep=0.25), "mode 'halve_grad' has keep=0.5, not 0.25"),
    ],
)
def test_a_mode_has_the_values_that_its_name_says(make: Callable[[], Mode], said: str) -> None:
    with pytest.raises(ModeError, match=re.escape(said)):
        make()


@given(BUILT)
def test_a_mode_is_made_again_from_its_values(mode: Mode) -> None:
    assert Mode(*mode) == mode


def test_a_mode_may_have_a_name_of_its_own() -> None:
    assert Mode("mine", keep=0.3).keep == 0.3


def test_a_pickled_mode_is_equal() -> None:
    pickled = pickle.dumps(modes.no_zero_grad())
    assert pickle.loads(pickled) == modes.no_zero_grad()  # noqa: S301 - our own


def test_a_mistyped_mode_is_reported_with_nearest_and_known() -> None:
    with pytest.raises(ModeError) as raised:
        parse("hlve_grad")
    known = ", ".join([*modes.WORDS, "package.module:NAME"])
    assert str(raised.value) == f"unknown mode 'hlve_grad'; did you mean 'halve_grad'? Known: {known}"


@pytest.mark.parametrize("word", ["zero-gard", "ZEROGRAD", "zer0_grad"])
def test_the_nearest_mode_is_found_whatever_the_case(word: str) -> None:
    with pytest.raises(ModeError, match=f"unknown mode '{word}'; did you mean 'zero_grad'"):
        parse(word)


@pytest.mark.parametrize(
    "word",
    [
        "",
        " ",
        "-",
        "sgd!",
        "keep",
        "keep=",
        "keep=nan",
        "keep=0.5;every=4",
        "zero_grad:4",
        "zero_grad:fil",
        "zero_gard:fill",
        "halve_grad:x",
        "mine:4",
        "my mine:f",
    ],
)
def test_a_word_like_no_mode_is_quoted_with_all_there_are(word: str) -> None:
    with pytest.raises(ModeError, match=re.escape(f"unknown mode '{word}'")) as raised:
        parse(word)
    assert all(known in str(raised.value) for known in modes.WORDS)


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("decay", "decay:K"),
        ("decay:", "decay:K"),
        ("decay:half", "decay:K"),
        ("decay:nan", "decay:K"),
        ("accumulate", "accumulate:N, accumulate:N:sum or accumulate:N:means, as in accumulate:4"),
        ("accumulate:4.5", "accumulate:N, accumulate:N:sum or accumulate:N:means"),
        ("accumulate:-4", "accumulate:N, accumulate:N:sum or accumulate:N:means"),
        ("accumulate:4:mean", "accumulate:N, accumulate:N:sum or accumulate:N:means"),
        ("decay:half,every=4", "decay:K, as in decay:0.9"),
    ],
)
def test_a_family_without_its_number_is_reported_with_its_form(word: str, form: str) -> None:
    with pytest.raises(ModeError, match=re.escape(f"mode '{word}' must have the form {form}")):
        parse(word)


@pytest.mark.parametrize("word", ["decay:1.5", "decay:-0.5", "decay:1.0000001"])
def test_decay_out_of_range_is_sent_to_the_rule_which_takes_it(word: str) -> None:
    with pytest.raises(ModeError, match="must be between 0 and 1") as raised:
        parse(word)
    advice = re.search(r"use '(.*)'", str(raised.value))
    assert advice
    assert not 0 <= parse(advice[1]).keep <= 1


@pytest.mark.parametrize("word", ["accumulate:0", "keep=0.5,every=0", "every=0"])
def test_a_window_of_no_step_is_refused(word: str) -> None:
    with pytest.raises(ModeError, match="must be at least 1, got 0"):
        parse(word)


@pytest.mark.parametrize("keep", [-0.1, 1.1, math.nan, math.inf])
def test_decay_keeps_between_nothing_and_all(keep: float) -> None:
    with pytest.raises(ModeError, match="between 0 and 1"):
        modes.decay(keep)


@pytest.mark.parametrize("keep", [math.nan, math.inf, -math.inf])
def test_the_rule_keeps_a_finite_part(keep: float) -> None:
    with pytest.raises(ModeError, match="must be a finite number"):
        modes.rule(keep)


def test_a_keep_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(ModeError, match="must be a finite number"):
        parse("keep=1e400")


def test_a_hostile_word_is_shown_short_and_printable() -> None:
    with pytest.raises(ModeError) as raised:
        parse("\x1b[31m" + "x" * 10_000)
    assert "\x1b" not in str(raised.value)
    assert len(str(raised.value)) < 300


# A user's own


@pytest.mark.parametrize(
    ("word", "name", "every", "mean", "by_batch"),
    [
        ("mine.py:leave", "mine.py:leave", 1, True, False),
        (" mine.py:leave ", "mine.py:leave", 1, True, False),
        ("sub/mine.py:leave,every=4", "mine.py:leave,every=4", 4, True, False),
        ("mine.py:leave,every=4:sum", "mine.py:leave,every=4:sum", 4, False, False),
        ("mine.py:leave,every=2:means", "mine.py:leave,every=2:means", 2, True, True),
        ("pack.mine:Leave", "pack.mine:Leave", 1, True, False),
        ("mine:leave", "mine:leave", 1, True, False),
        ("mine:leave,every=4:sum", "mine:leave,every=4:sum", 4, False, False),
        ("decay.py:leave", "decay.py:leave", 1, True, False),
    ],
)
def test_a_file_or_module_and_a_name_are_a_mode_of_ones_own(
    word: str, name: str, every: int, mean: bool, by_batch: bool, folder: Path
) -> None:
    for file in (folder / "mine.py", folder / "sub" / "mine.py", folder / "decay.py"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("raise RuntimeError('imported')")
    found = parse(word)
    assert found[:6] == (name, 0.0, every, mean, False, by_batch)
    assert found.own
    assert found.rewrite_grad is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nosuch.py:leave", "mode 'nosuch.py:leave': no file nosuch.py"),
        ("mine.py:", "mode 'mine.py:': expected a function name after the colon, got ''"),
        ("mine.py:two words", "expected a function name after the colon, got 'two words'"),
        ("mine.py:leave,every=0", "must be at least 1"),
        ("mine.py:leave,evry=4", "unknown mode"),
    ],
)
def test_a_missing_user_mode_is_refused_in_a_line(word: str, message: str, folder: Path) -> None:
    (folder / "mine.py").write_text("")
    with pytest.raises(ModeError, match=re.escape(message)):
        parse(word)


def test_the_example_that_ships_is_found_from_anywhere() -> None:
    assert modes.load(parse("own_mode.py:clear_now_and_then")).rewrite_grad


def test_a_task_is_not_looked_for_among_what_ships() -> None:
    with pytest.raises(TaskError, match=r"no file own_mode\.py"):
        tasks.find("own_mode.py:clear_now_and_then")


def test_a_built_in_mode_is_ready_for_training_as_it_is() -> None:
    assert modes.load(modes.halve_grad()) == modes.halve_grad()
