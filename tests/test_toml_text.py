"""The line of a TOML text that gives a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradlab.experiment.toml_text import line_of

TEXT = """\
# lr = 1 is only spoken of here
title = "lr = 2"
seeds = [
    1,
    2,
]

[optimizer]  # lr comes later
name = "sgd"
lr = 3
betas = [
    0.9,
]
[task_options]
"quoted key" = 1
inner = {deep = 4, deeper = {deepest = 5}}
text = '''
lr = 6
[expect]
'''
[expect.zero_grad]
steps = 7
[expect."accumulate:4"]
steps = 8
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("title",), 2),
        (("seeds",), 3),
        (("optimizer",), 8),
        (("optimizer", "name"), 9),
        (("optimizer", "lr"), 10),
        (("optimizer", "betas"), 11),
        (("task_options",), 14),
        (("task_options", "quoted key"), 15),
        (("task_options", "inner"), 16),
        (("task_options", "inner", "deep"), 16),
        (("task_options", "inner", "deeper", "deepest"), 16),
        (("task_options", "text"), 17),
        (("expect",), 21),
        (("expect", "zero_grad"), 21),
        (("expect", "zero_grad", "steps"), 22),
        (("expect", "accumulate:4", "steps"), 24),
    ],
)
def test_a_key_stands_in_the_line_that_gives_it(key: tuple[str, ...], line: int) -> None:
    assert line_of(TEXT, key) == line


def test_a_dotted_key_stands_in_its_line() -> None:
    assert line_of("task = 'x'\noptimizer.name = 'sgd'\noptimizer.lr = 1\n", ("optimizer", "lr")) == 3


def test_a_key_that_is_not_given_stands_at_its_table() -> None:
    assert line_of(TEXT, ("optimizer", "momentum")) == 8


def test_a_key_without_a_table_is_reported_in_the_first_line() -> None:
    assert line_of(TEXT, ("modes", "first")) == 1


def test_a_statement_of_many_lines_stands_where_it_begins() -> None:
    text = "a = 1\nlong = [\n" + "    1,\n" * 50 + "]\nb = 2\n"
    assert (line_of(text, ("long",)), line_of(text, ("b",))) == (2, 54)


def test_the_last_of_the_lines_may_end_without_a_newline() -> None:
    assert line_of("a = 1\nb = 2", ("b",)) == 2


KEYS = st.lists(st.text("abcdr_", min_size=1, max_size=4), min_size=1, max_size=6, unique=True)
NOISE = st.lists(st.sampled_from(["", "# a = 1", "  # b", "\t"]), max_size=3)


@given(st.data(), KEYS)
def test_every_key_of_a_text_is_found_between_its_comments(data: st.DataObject, keys: list[str]) -> None:
    lines: list[str] = []
    lines_of = {}
    for key in keys:
        lines += data.draw(NOISE)
        lines.append(f"{key} = '{data.draw(st.sampled_from(keys))} = 1'")
        lines_of[key] = len(lines)
    text = "\n".join(lines)
    assert {key: line_of(text, (key,)) for key in keys} == lines_of
