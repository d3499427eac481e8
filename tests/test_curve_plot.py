"""Curves on a terminal: what each part of the picture shows, with and without Unicode and colours."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gradlab.plotting.views import view_of
from gradlab.terminal.curve_plot import ASCII, BRAILLE, UNICODE, Canvas, curve_lines
from tests.gallery import FALL, SETTINGS, Runs, each, run

DOTS = range(BRAILLE + 1, BRAILLE + 256)


def picture(runs: Runs, width: int = 80, *, unicode: bool = True, coloured: bool = False, **options: Any) -> list[str]:
    lines = curve_lines(view_of(runs, **options), width, "loss", unicode=unicode, coloured=coloured)
    return [line.plain for line in lines]


def places(lines: list[str], marks: str = "") -> list[tuple[int, int]]:
    """Return the row and column of every cell with a dot, or with one of the marks, left of the labels."""
    edge = len(lines[-2])
    return [
        (row, column)
        for row, line in enumerate(lines)
        for column, char in enumerate(line[:edge])
        if (char in marks if marks else ord(char) in DOTS)
    ]


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("setting", SETTINGS)
def test_any_curves_fit_the_terminal(setting: str, width: int, unicode: bool) -> None:
    if setting.startswith("100,000") and width != 60:
        return  # drawing all these points is slow, and no width changes it
    lines = picture(SETTINGS[setting](), width, unicode=unicode)
    assert max(map(len, lines)) <= min(width, 100)
    assert all(line.isascii() for line in lines) is not unicode


def test_a_falling_curve_goes_from_top_left_to_bottom_right() -> None:
    lines = picture(run([4.0, 3.0, 2.0, 1.0, 0.0]))
    cells = places(lines)
    assert (cells[0][1], cells[-1][1]) == (min(c for _, c in cells), max(c for _, c in cells))
    assert [row for row, _ in cells] == sorted(row for row, _ in cells)
    assert max(c for _, c in cells) - min(c for _, c in cells) > 40


def test_a_dot_is_at_its_place_in_the_cell() -> None:
    canvas = Canvas(2, 1, UNICODE)
    for x, y in ((0, 0), (3, 3), (4, 0), (-1, 0), (0, 4)):  # the last three are outside
        canvas.set(x, y, 0)
    assert canvas.line(0, [""]).plain == "\N{BRAILLE PATTERN DOTS-1}\N{BRAILLE PATTERN DOTS-8}"


def test_later_curves_give_a_cell_its_colour_or_mark() -> None:
    for glyphs, expected in ((UNICODE, "\N{BRAILLE PATTERN DOTS-12}"), (ASCII, "o")):
        canvas = Canvas(1, 2, glyphs)
        canvas.set(0, 0, 0)
        canvas.set(0, 1 if glyphs is UNICODE else 0, 1)
        line = canvas.line(0, ["red", "green"])
        assert line.plain == expected
        assert [str(span.style) for span in line.spans] == ["green"]


def test_the_axes_have_round_values_and_names() -> None:
    lines = picture(run([0.5, 3.0, 4.0]))
    assert lines[0] == "training loss"
    assert [line.partition("┤")[0] for line in lines if "┤" in line] == ["4", "2", "0"]
    assert lines[-2].startswith(" └──")
    assert lines[-1].split() == ["0", "step", "2"]
    assert picture(run([1.0] * 8, per_epoch=2))[-1].split() == ["1", "epoch", "4"]


def test_the_scale_is_logarithmic_where_the_figure_has_one() -> None:
    lines = picture(run([1e-3, 1e-2, 0.1, 1.0, 10.0]))
    assert [line.partition("┤")[0].strip() for line in lines if "┤" in line] == ["10", "1", "0.1", "0.01", "0.001"]
    rows = [row for row, _ in places(lines)]
    assert min(rows) <= 2
    assert max(rows) >= len(lines) - 4


def test_each_curve_is_named_at_its_end_in_order_of_height() -> None:
    lines = picture(each({"zero_grad": [5.0, 1.0], "halve_grad": [5.0, 1.01], "no_zero_grad": [5.0, 9.0]}))
    named = [line.rpartition(" ")[2] for line in lines if line.endswith("_grad")]
    assert named == ["no_zero_grad", "halve_grad", "zero_grad"]
    assert lines.index(next(line for line in lines if line.endswith("no_zero_grad"))) < 3


def test_curves_have_the_colours_of_the_figure() -> None:
    view = view_of(each({"zero_grad": FALL, "no_zero_grad": FALL[::-1], "as_written": [1.0] * 6}))
    lines = curve_lines(view, 80, "loss", unicode=True, coloured=True)
    styles = {str(span.style) for line in lines for span in line.spans} - {""}
    assert styles == {view.lines[0].colour, view.lines[1].colour}  # black would not show on a dark terminal
    plain = curve_lines(view, 80, "loss", unicode=True, coloured=False)
    assert not {str(span.style) for line in plain for span in line.spans} - {""}


def test_without_colours_curves_have_dashes() -> None:
    def cells(coloured: bool) -> int:
        return len(places(picture(run([1.0] * 20, "no_zero_grad"), coloured=coloured)))

    assert cells(coloured=False) < cells(coloured=True)


def test_without_unicode_each_curve_has_a_mark() -> None:
    lines = picture(each({"zero_grad": FALL, "no_zero_grad": [y + 5 for y in FALL]}), unicode=False)
    (first,) = (line for line in lines if line.endswith("* zero_grad"))
    (second,) = (line for line in lines if line.endswith("o no_zero_grad"))
    assert first.count("*") > 2
    assert second.count("o ") > 1
    assert lines[-2].lstrip().startswith("+--")


def test_a_curve_that_diverges_does_not_squeeze_the_rest() -> None:
    losses = {"zero_grad": [5.0, 4.0, 3.0, 2.0, 1.0], "no_zero_grad": [5.0, 1e30, 1e60, math.nan, math.nan]}
    lines = picture(each(losses), unicode=False)
    rows = [row for row, _ in places(lines, "*")]
    assert max(rows) - min(rows) >= 5
    assert any(line.endswith("o no_zero_grad x") for line in lines)
    assert picture(each(losses))[1].endswith("no_zero_grad ×")


def test_a_long_name_is_cut_and_the_curves_keep_two_thirds() -> None:
    lines = picture(run(FALL, "folder/mine.py:clear_gradients_now_and_then"), 60)
    assert any(line.endswith("…") for line in lines)
    assert len(lines[-2]) >= 38
