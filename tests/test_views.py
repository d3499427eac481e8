"""Views: which part of the curves a picture shows, and what its caption says about them."""

from __future__ import annotations

import math

import pytest

from gradlab.errors import PlotError
from gradlab.plotting.views import View, choose_modes, end_of, view_of
from tests.gallery import FALL, each, noisy, run


def ends_of(view: View) -> list[tuple[float, float, bool]]:
    return [(*end_of(line, view.limits),) for line in view.lines]


def test_the_x_axis_ends_where_all_curves_have_left() -> None:
    losses = [5.0, 50.0, 1e30, 1e60, *[math.nan] * 96]
    view = view_of(each(dict.fromkeys(("zero_grad", "no_zero_grad"), losses)))
    assert view.left == 0
    assert 1 < view.right < 2
    assert [leaves for *_, leaves in ends_of(view)] == [True, True]


def test_the_x_axis_follows_the_curves_that_go_on() -> None:
    view = view_of(each({"zero_grad": [1.0] * 100, "no_zero_grad": [1.0, 50.0, *[math.nan] * 98]}))
    assert view.right == 99


def test_a_diverging_curve_leaves_the_others_most_of_the_axis() -> None:
    for far in ([1e9] * 5, [math.nan] * 5, [1e60] * 5):
        view = view_of(each({"zero_grad": FALL, "no_zero_grad": [5.0, *far]}))
        assert view.limits.top < 2 * max(FALL)
        assert not view.limits.log
        (_, (x, y, leaves)) = ends_of(view)
        assert leaves
        assert 0 <= x < 1
        assert y <= view.limits.top


def test_a_rise_that_others_do_not_share_stays_in_the_picture() -> None:
    view = view_of(each({"zero_grad": FALL, "no_zero_grad": [5.0, 50.0, 100.0, 500.0, 900.0, 1000.0]}))
    assert view.limits.top > 1000


def test_curves_that_are_finite_are_shown_whole_if_all_diverge() -> None:
    view = view_of(run([10.0**nth for nth in range(50)]))
    assert (view.right, view.limits.log) == (49, True)
    assert view.limits.bottom < 1
    assert view.limits.top > 1e49


def test_one_low_loss_of_one_seed_does_not_set_the_axis() -> None:
    view = view_of([*run(FALL), *run([5.0, 4.0, 1e-9, 2.5, 2.2, 2.0], seed=2), *run(FALL, seed=3)])
    assert not view.limits.log


def test_the_ends_of_the_y_axis_are_as_asked_for() -> None:
    assert view_of(run(FALL), ylim=(1.0, 3.0)).limits == (1.0, 3.0, False)
    assert view_of(run(FALL), ylim=(None, 30.0)).limits == (0.0, 30.0, False)
    assert view_of(run([1e-4, 1.0]), ylim=(0.0, None)).limits.log is False
    assert view_of(run(FALL), yscale="log").limits.log
    assert view_of(run([1e-4, 1.0]), yscale="linear").limits.bottom == 0


@pytest.mark.parametrize(
    ("options", "losses", "message"),
    [
        ({"yscale": "logg"}, FALL, "unknown scale 'logg'; did you mean 'log'"),
        ({"yscale": "log"}, [-1.0, -2.0], "these curves have none"),
        ({"yscale": "log", "ylim": (0.0, 1.0)}, FALL, "a log scale begins above 0, not at 0"),
        ({"ylim": (3.0, 1.0)}, FALL, "3 is not below 1"),
        ({"smooth": 0}, FALL, "at least 1, not 0"),
    ],
)
def test_what_cannot_be_shown_is_refused(options: dict[str, object], losses: list[float], message: str) -> None:
    with pytest.raises(PlotError, match=message):
        view_of(run(losses), **options)  # type: ignore[arg-type]  # wrong on purpose


def test_a_long_noisy_curve_is_drawn_in_blocks_unless_asked() -> None:
    runs = run(noisy(600))
    (line,), notes = view_of(runs).lines, view_of(runs).notes
    assert len(line.band.x) == 60
    assert notes == ["medians of 10 steps, with the middle 80% of them"]
    for options in ({"smooth": 1}, {"exact": True}):
        view = view_of(runs, **options)
        assert (len(view.lines[0].band.x), view.notes) == (600, [])


def test_blocks_do_not_shorten_the_axis_or_move_the_overflow() -> None:
    view = view_of(each({"zero_grad": noisy(600), "no_zero_grad": [*noisy(400), *[math.nan] * 200]}))
    assert (view.left, view.right) == (0, 599)
    line = view.lines[1]
    assert line.band.x[line.finite] == 400


def test_smoothing_keeps_the_curve_itself() -> None:
    view = view_of(run(FALL), smooth=3)
    (line,) = view.lines
    assert line.band.median == [4.5, 4.0, 3.0, 2.5, 2.2, 2.1]
    assert line.raw is not None
    assert line.raw.median == FALL
    assert view.notes == ["running median of 3 steps, with the curve itself"]


def test_curves_that_coincide_are_named() -> None:
    three = each(dict.fromkeys(["zero_grad", "halve_grad", "decay:0.9"], FALL))
    assert view_of(three).notes == ["zero_grad, halve_grad and decay:0.9 coincide"]
    many = each({f"decay:0.{nth}": FALL for nth in range(10, 20)})
    assert view_of(many).notes == ["10 curves coincide"]
    pairs = {f"decay:0.{nth}{'1' * 20}": [y + nth // 2 for y in FALL] for nth in range(4)}
    assert view_of(each(pairs)).notes == ["2 pairs of curves coincide"]
    assert view_of(each({**pairs, "zero_grad": FALL})).notes == ["2 groups of curves coincide"]
    assert view_of(each({"zero_grad": FALL, "halve_grad": FALL[::-1]})).notes == []
    assert view_of(each({"zero_grad": FALL, "halve_grad": [math.nan] * 6})).notes == []


def test_modes_are_chosen_by_any_of_their_names() -> None:
    known = ["zero_grad", "decay:0.9", "mine.py:own"]
    assert choose_modes(known, []) == known
    assert choose_modes(known, ["mine.py:own", "zero-grad"]) == ["zero_grad", "mine.py:own"]
    assert choose_modes(known, ["decay:0.90"]) == ["decay:0.9"]
    for wrong in ("halve_grad", "nonsense"):
        with pytest.raises(PlotError, match=rf"unknown mode of these runs '{wrong}'.* Known: zero_grad, decay:0.9"):
            choose_modes(known, [wrong])
