"""Errors: one tree, and messages that say what was asked, what is wrong and what would work."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradlab import errors
from gradlab.errors import (
    ExperimentError,
    GradlabError,
    ModeError,
    TaskError,
    nearest,
    raise_together,
    shortened,
    unknown,
    user_location,
    users_traceback,
)


def raised_by(code: str, file: str = "mine.py") -> BaseException:
    """Return what running `code` from a user's file raises."""
    Path(file).write_text(code)
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - whatever it is
        runpy.run_path(file)
    return raised.value


def test_every_error_of_the_package_is_a_gradlab_error() -> None:
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    assert len(found) > 10
    assert all(issubclass(each, GradlabError) for each in found)


def test_several_errors_are_raised_as_one_and_one_as_it_is() -> None:
    one, other = ModeError("first"), TaskError("second")
    raise_together([], ExperimentError)
    with pytest.raises(ModeError, match=r"^first$"):
        raise_together([one], ExperimentError)
    with pytest.raises(ExperimentError, match=r"^first\nsecond$"):
        raise_together([one, other], ExperimentError)


def test_unknown_reports_the_name_the_nearest_and_the_known() -> None:
    assert unknown("task", "digit", ["noisy_line", "digits"]) == (
        "unknown task 'digit'; did you mean 'digits'? Known: noisy_line, digits"
    )


def test_unknown_guesses_nothing_where_nothing_is_near() -> None:
    assert unknown("task", "zzz", ["noisy_line", "digits"]) == "unknown task 'zzz'. Known: noisy_line, digits"


def test_unknown_says_so_where_there_is_nothing_to_know() -> None:
    assert unknown("option", "width", []) == "unknown option 'width'. Known: none"


def test_nearest_ignores_case_and_returns_the_known_spelling() -> None:
    assert nearest("adamw", ["Adam", "AdamW", "SGD"]) == "AdamW"


def test_the_nearest_of_what_is_not_alike_is_none() -> None:
    assert nearest("xyz", ["Adam", "SGD"]) is None


@given(st.text(), st.integers(1, 80))
def test_a_shortened_text_is_one_printable_line_within_its_limit(text: str, limit: int) -> None:
    short = shortened(text, limit)
    assert short.isprintable()
    assert len(short) <= limit


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=60))
def test_a_short_printable_text_is_not_changed(text: str) -> None:
    assert shortened(text) == text


def test_the_place_of_an_error_is_the_line_of_the_users_file() -> None:
    error = raised_by("x = 1\ny = x / 0\n")
    assert user_location(error) == "mine.py:2"


def test_an_error_in_the_library_is_located_at_the_users_call() -> None:
    error = raised_by("import json\n\njson.loads('{')\n")
    assert user_location(error) == "mine.py:3"


def test_a_syntax_error_is_located_at_its_own_line() -> None:
    error = raised_by("x = 1\n\ndef f(:\n")
    assert user_location(error) == "mine.py:3"


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert user_location(ValueError("never raised")) is None


def test_an_error_of_gradlab_itself_has_no_place_in_gradlab() -> None:
    code = "from gradlab import modes\nmodes.parse('nonsense')\n"
    assert user_location(raised_by(code)) == "mine.py:2"


def test_a_users_traceback_has_only_frames_of_their_code() -> None:
    text = users_traceback(raised_by("import json\ndef load():\n    return json.loads('{')\nload()\n"))
    assert 'File "mine.py", line 4' in text
    assert "return json.loads('{')" in text
    assert text.splitlines()[-1].startswith("json.decoder.JSONDecodeError: Expecting property name")
    assert "decoder.py" not in text
    assert "<frozen" not in text


def test_a_users_traceback_without_their_frames_is_the_error() -> None:
    assert users_traceback(ValueError("never raised")) == "ValueError: never raised"


def shell_with(*cells: str) -> SimpleNamespace:
    """Return what takes the place of IPython: the cells as typed, and ipykernel's names of compiled cells."""
    compile_ = SimpleNamespace(format_code_name=lambda file: ("Cell", "In[7]") if file == "kernel_1/47.py" else None)
    shell = SimpleNamespace(history_manager=SimpleNamespace(input_hist_raw=["", *cells]), compile=compile_)
    return SimpleNamespace(get_ipython=lambda: shell)


def raised_in(code: str, file: str) -> BaseException:
    """Return what code raises that is compiled under this file name."""
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - whatever it is
        exec(compile(code, file, "exec"), {})  # noqa: S102 - our own code
    return raised.value


@pytest.mark.parametrize(("file", "cell"), [("<ipython-input-3-5f2d0c>", "In[3]"), ("kernel_1/47.py", "In[7]")])
def test_a_traceback_names_cells(file: str, cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", shell_with())
    error = raised_in("def f():\n    1 / 0\nf()", file)
    assert user_location(error) == f"cell {cell}, line 2"
    lines = users_traceback(error).splitlines()
    named = [line for line in lines if line.startswith("  Cell")]
    assert named == [f"  Cell {cell}, line 3, in <module>", f"  Cell {cell}, line 2, in f"]


def test_a_cell_under_time_has_its_own_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "def f():\n    1 / 0\nf()"
    monkeypatch.setitem(sys.modules, "IPython", shell_with("x = 1", f"%%time\n{body}"))
    error = raised_in(body, "<timed exec>")
    assert user_location(error) == "cell In[2], line 3"
    assert users_traceback(error).splitlines()[-5:-1] == [
        "  Cell In[2], line 4, in <module>", "    f()", "  Cell In[2], line 3, in f", "    1 / 0"
    ]  # fmt: skip


def test_a_statement_after_time_has_the_line_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for cells in (["%%time\n2", "1\n%time 1 / 0"], ["1\n%time 1 / 0"]):
        monkeypatch.setitem(sys.modules, "IPython", shell_with(*cells))
        outer = "exec(compile('1 / 0', '<timed exec>', 'exec'))"
        assert user_location(raised_in(f"\n{outer}", "<ipython-input-2-x>")) == "cell In[2], line 2"


def test_a_notebook_shows_the_message_and_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", shell_with())
    code = "from gradlab.errors import TaskError\nraise TaskError('wrong\\x1b')"
    error = raised_in(code, "<ipython-input-4-x>")
    assert isinstance(error, GradlabError)
    assert error._render_traceback_() == ["TaskError: wrong\ufffd", "at cell In[4], line 2"]
    assert ModeError("wrong")._render_traceback_() == ["ModeError: wrong"]
