"""PhaseMap diagrams: a sweep's table becomes panels, drawn with what diverged hatched and theory's edge over it."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.patches import PathPatch
from matplotlib.text import Text

from gradlab.analysis import theory
from gradlab.errors import PlotError
from gradlab.plotting import (
    PhaseMap,
    Profile,
    ProfileCurve,
    common_title,
    draw_phases,
    panels_of,
    rendered,
    sweep_titles,
)
from gradlab.plotting.phase_maps import BEYOND, DENSE, SPARSE
from gradlab.plotting.scales import is_log
from gradlab.plotting.stability_edge import EDGE
from gradlab.store import SweepRecord
from tests.gallery import TWELVE
from tests.text_boxes import clipped, overlapping, text_boxes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAMBDAS = [2.0, 2.5, 3.0]


def spaced(first: float, last: float, number: int) -> list[float]:
    """Return numbers from first to last, each a factor above the one before."""
    return [first * (last / first) ** (nth / (number - 1)) for nth in range(number)]


def columns(axes: dict[str, Sequence[float]], lambdas: Sequence[float], steps: int = 60) -> dict[str, Any]:
    """Return the table of a sweep over lr × keep as theory has it, a λ for each seed."""
    status, verdict, losses = [], [], []
    for lr in axes["lr"]:
        for keep in axes["keep"]:
            for curvature in lambdas:
                losses.append(theory.loss_trajectory(lr, [curvature], keep, steps)[-1])
                stable = theory.outcome(lr, curvature, keep) != "diverges"
                verdict.append("falls" if stable else "diverges")
                status.append("done")
    return {
        "axes": axes, "modes": ["keep"], "seeds": range(len(lambdas)),
        "status": status, "verdict": verdict, "loss": losses,
    }  # fmt: skip


def swept(number: int = 9, lambdas: Sequence[float] = LAMBDAS, lrs: tuple[float, float] = (0.01, 4.0)) -> PhaseMap:
    keeps = [nth / (number - 1) for nth in range(number)]
    table = columns({"lr": spaced(*lrs, number), "keep": keeps}, lambdas)
    (panel,) = panels_of(**table, sharpness=lambdas)
    assert isinstance(panel, PhaseMap)
    return panel


def numbered(axes: dict[str, Any], modes: Sequence[str] = ("keep",), seeds: int = 1, **more: Any) -> list[Any]:
    """Return the panels of a sweep in which each run's last loss is its index."""
    runs = math.prod(map(len, axes.values())) * len(modes) * seeds
    table = {"status": ["done"] * runs, "verdict": ["falls"] * runs, "loss": [float(n) for n in range(runs)]}
    return list(panels_of(axes, modes, range(seeds), **{**table, **more}))


def maps_of(figure: Figure) -> list[tuple[Axes, QuadMesh]]:
    """Return the panels that have cells, without the colour bar."""
    found = [(axes, each) for axes in figure.axes for each in axes.collections if isinstance(each, QuadMesh)]
    return [(axes, each) for axes, each in found if axes.get_position().width > 0.05]


def hatched(axes: Axes, hatch: str) -> set[tuple[float, float]]:
    """Return the middles of the cells that have this hatch, in the axes' own scale."""
    found = set()
    for patch in axes.patches:
        if isinstance(patch, PathPatch) and patch.get_hatch() == hatch:
            corners = np.asarray(patch.get_path().vertices).reshape(-1, 5, 2)
            (x0, y0), (x1, y1) = corners[:, 0].T, corners[:, 2].T
            found |= set(zip(np.sqrt(x0 * x1).tolist(), ((y0 + y1) / 2).tolist(), strict=True))
    return found


def words_of(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


# From a table to panels


def test_lr_goes_right_and_keep_up_in_ascending_order() -> None:
    lrs, keeps = [0.1, 0.01, 1.0], [1.0, 0.0]
    for axes in ({"lr": lrs, "keep": keeps}, {"keep": keeps, "lr": lrs}):
        (panel,) = numbered(axes)
        assert (panel.x_key, panel.y_key, panel.x, panel.y) == ("lr", "keep", [0.01, 0.1, 1.0], [0.0, 1.0])
    (panel,) = numbered({"lr": lrs, "keep": keeps})
    assert panel.loss == [[3.0, 1.0, 5.0], [2.0, 0.0, 4.0]]  # run = 2·(which lr) + (which keep)


def test_keep_goes_up_beside_another_axis_too() -> None:
    (panel,) = numbered({"keep": [0.0, 1.0], "batch_size": [1, 40]})
    assert (panel.x_key, panel.y_key, panel.loss) == ("batch_size", "keep", [[0.0, 1.0], [2.0, 3.0]])


def test_a_cell_has_the_median_and_diverged_share_of_its_seeds() -> None:
    verdicts = ["falls", "diverges", "diverges", "falls", *["falls"] * 12]
    losses = [4.0, math.inf, math.nan, 3.0, *[0.0] * 12]
    (panel,) = numbered({"lr": [0.1, 1.0], "keep": [0.0, 1.0]}, seeds=4, verdict=verdicts, loss=losses)
    assert panel.diverged == [[0.5, 0.0], [0.0, 0.0]]
    assert panel.loss == [[4.0, 0.0], [0.0, 0.0]]  # the lower of the two in the middle


def test_missing_and_failed_runs_do_not_count_in_a_cell() -> None:
    status = ["done", None, "failed", None, *["done"] * 4]
    losses = [7.0, None, 5.0, None, *[1.0] * 4]
    (panel,) = numbered({"lr": [0.1, 1.0], "keep": [0.0, 1.0]}, seeds=2, status=status, loss=losses)
    assert panel.loss == [[7.0, 1.0], [None, 1.0]]
    assert panel.diverged == [[0.0, 0.0], [None, 0.0]]


def test_a_third_axis_becomes_panels_with_their_own_runs() -> None:
    panels = numbered({"lr": [0.1, 1.0], "task_options.batch_size": [1, 40], "keep": [0.0, 0.5]}, sharpness=[2.0])
    assert [panel.title for panel in panels] == ["batch_size=1", "batch_size=40"]
    assert [panel.loss for panel in panels] == [[[0.0, 4.0], [1.0, 5.0]], [[2.0, 6.0], [3.0, 7.0]]]
    assert [panel.sharpness for panel in panels] == [[2.0], [2.0]]


def test_optimizers_and_tasks_are_named_by_their_values() -> None:
    panels = numbered({"lr": [0.1, 1.0], "optimizer.name": ["SGD", "Adam"], "momentum": [0.0, 0.9]})
    assert [panel.title for panel in panels] == ["SGD", "Adam"]


def a_sweep(title: str = "", modes: Sequence[str] = (), **settings: Any) -> SweepRecord:
    """Return the record of a sweep of noisy_line with these settings."""
    known = {"task": "noisy_line", "vary": [], **settings}
    return SweepRecord(
        "noisy_line", "abc", known, [{"key": "lr", "values": [0.1, 1.0], "log": True}], list(modes), [0], 1, "loop",
        2 * max(1, len(modes)), "done", title,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("sweeps", "titles", "common"),
    [
        ([a_sweep("One"), a_sweep("Other", lr=1.0)], ["One", "Other"], ""),
        (
            [a_sweep(task_options={"batch_size": each}) for each in (1, 40)],
            ["batch_size=1", "batch_size=40"],
            "noisy_line",
        ),
        ([a_sweep(optimizer={"name": each}) for each in ("SGD", "Adam")], ["SGD", "Adam"], "noisy_line"),
        ([a_sweep(modes=["zero_grad"]), a_sweep(modes=["halve_grad"])], ["zero_grad", "halve_grad"], "noisy_line"),
        ([a_sweep("Same"), a_sweep("Same", vary=["keep"])], ["Same", "Same"], "Same"),
    ],
    ids=["titles", "batch sizes", "optimizers", "modes", "ranges"],
)
def test_sweeps_are_titled_by_what_differs(sweeps: list[SweepRecord], titles: list[str], common: str) -> None:
    assert sweep_titles(sweeps) == titles
    assert common_title(sweeps) == common


def test_modes_are_panels_of_maps_and_curves_of_one_axis() -> None:
    modes = ["zero_grad", "halve_grad"]
    maps = numbered({"lr": [0.1, 1.0], "batch_size": [1, 40]}, modes)
    assert [(panel.title, panel.y_key) for panel in maps] == [
        ("zero_grad", "batch_size"),
        ("halve_grad", "batch_size"),
    ]
    (curves,) = numbered({"lr": [1.0, 0.1], "epochs": [3]}, modes, seeds=3)
    assert isinstance(curves, Profile)
    assert curves.x == [0.1, 1.0]
    assert [(each.mode, each.low, each.median, each.high) for each in curves.curves] == [
        ("zero_grad", [6.0, 0.0], [7.0, 1.0], [8.0, 2.0]),
        ("halve_grad", [9.0, 3.0], [10.0, 4.0], [11.0, 5.0]),
    ]


@pytest.mark.parametrize(
    ("axes", "edged"),
    [
        ({"lr": [0.1, 1.0], "keep": [0.0, 1.0]}, True),
        ({"optimizer.lr": [0.1, 1.0], "keep": [0.0, 1.0], "every": [1, 2]}, True),
        ({"lr": [0.1, 1.0]}, True),
        ({"lr": [0.1, 1.0], "keep": [0.0, 1.0], "task_options.samples": [4, 40]}, False),  # another λ in each panel
        ({"lr": [0.1, 1.0], "momentum": [0.0, 0.9]}, False),
        ({"keep": [0.0, 1.0], "batch_size": [1, 40]}, False),
        ({"batch_size": [1, 40]}, False),
    ],
)
def test_the_edge_is_drawn_where_the_axes_and_panels_have_it(axes: dict[str, Any], edged: bool) -> None:
    assert {tuple(panel.sharpness) for panel in numbered(axes, sharpness=[2.0])} == {(2.0,) if edged else ()}


def test_a_sharpness_that_bounds_no_lr_is_no_edge() -> None:
    (panel,) = numbered({"lr": [0.1, 1.0], "keep": [0.0, 1.0]}, sharpness=[0.0, -1.0, math.inf, 3.0])
    assert panel.sharpness == [3.0]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"lr": [0.1]}, "No axis to draw along"),
        ({"optimizer.name": ["SGD", "Adam"], "flag": [True, False]}, "No axis to draw along"),
        ({"lr": [1, 2], "keep": [0, 1], "every": [1, 2, 3], "batch_size": [1, 2, 3]}, r"9 panels \(3 of every × 3 of"),
    ],
)
def test_what_cannot_be_drawn_is_told_with_what_to_do(axes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlotError, match=message):
        numbered(axes)


@pytest.mark.parametrize(
    ("values", "log"),
    [
        ([0.001, 0.01, 0.1], True),
        ([1, 2, 4, 8], True),
        ([0.0, 0.5, 1.0], False),
        ([0.1, 0.2, 0.3, 0.4], False),
        ([1, 40], True),
        ([1, 4], False),
        ([-1.0, 1.0], False),
    ],
)
def test_an_axis_is_logarithmic_where_its_values_go_by_factors(values: list[float], log: bool) -> None:
    assert is_log(values) is log


# The picture


def test_cells_are_hatched_densely_or_sparsely_by_diverged_share() -> None:
    panel = swept()
    ((axes, _),) = maps_of(draw_phases([panel]))
    for hatch, low, high in ((DENSE, 0.5, 1.0), (SPARSE, 0.0, 0.5)):
        wanted = [
            (x, y)
            for y, row in zip(panel.y, panel.diverged, strict=True)
            for x, share in zip(panel.x, row, strict=True)
            if share is not None and low < share <= high
        ]
        assert wanted
        assert np.array(sorted(hatched(axes, hatch))) == pytest.approx(np.array(sorted(wanted)))


def test_half_of_the_seeds_is_some_and_none_is_not_hatched() -> None:
    panel = PhaseMap("", "lr", [0.01, 1.0], "keep", [0.0, 1.0], [[1.0, 1.0], [1.0, 1.0]], [[0.5, 0.75], [0.25, 0.0]])
    ((axes, _),) = maps_of(draw_phases([panel]))
    assert {(round(x, 6), y) for x, y in hatched(axes, DENSE)} == {(1.0, 0.0)}
    assert {(round(x, 6), y) for x, y in hatched(axes, SPARSE)} == {(0.01, 0.0), (0.01, 1.0)}


def test_the_edge_is_that_of_theory_for_median_and_range() -> None:
    ((axes, _),) = maps_of(draw_phases([swept()]))
    first, last, middle = (np.asarray(line.get_xydata()) for line in axes.get_lines())
    for line, curvature in ((first, 3.0), (last, 2.0), (middle, 2.5)):
        assert [x for x, _ in line] == pytest.approx([2 * (1 + keep) / curvature for _, keep in line])
    assert middle[-1, 1] == pytest.approx(1.0, abs=0.01)  # nothing beyond keep = 1


def test_hatching_begins_at_the_edge_in_every_column() -> None:
    panel = swept(33, [2.5])
    ((axes, _),) = maps_of(draw_phases([panel]))
    gone = hatched(axes, DENSE)
    assert len(gone) > 100
    for x, y in gone:
        assert x >= 2 * (1 + y) / 2.5 * (1 - 1e-9)
    assert len(gone) == sum(x > 2 * (1 + y) / 2.5 for x in panel.x for y in panel.y)


def test_a_border_is_drawn_around_what_diverged() -> None:
    ((axes, _),) = maps_of(draw_phases([swept(3, [2.5], (0.1, 10.0))]))
    (border,) = [each for each in axes.collections if isinstance(each, LineCollection)]
    assert len(border.get_segments()) == 4  # lr 0.1 | 1 | 10: at keep 0 two columns diverge, else one; a step between


def test_colours_span_what_did_not_diverge_and_panels_share_them() -> None:
    one, other = swept(), swept(lambdas=[1.0])
    figure = draw_phases([one, other])
    (_, first), (_, second) = maps_of(figure)
    settled = [
        loss
        for panel in (one, other)
        for losses, shares in zip(panel.loss, panel.diverged, strict=True)
        for loss, share in zip(losses, shares, strict=True)
        if loss is not None and share is not None and share <= 0.5
    ]
    assert first.norm.vmax == second.norm.vmax == max(settled)
    assert first.norm.vmin == second.norm.vmin == pytest.approx(max(settled) / 1e12)  # where all lower ones end


def test_a_loss_above_the_scale_is_grey_only_where_it_diverged() -> None:
    loss: list[list[float | None]] = [[1.0 + 0.01 * nth for nth in range(60)], [1.0] * 60]
    diverged: list[list[float | None]] = [[0.0] * 60, [0.0] * 60]
    loss[0][5], loss[1][7], diverged[1][7] = 1e9, 1e9, 1.0
    panel = PhaseMap("", "lr", spaced(0.01, 1, 60), "keep", [0.0, 1.0], loss, diverged)
    ((_, mesh),) = maps_of(draw_phases([panel]))
    top = mesh.norm.vmax
    assert isinstance(top, float)
    assert top < 2
    shown = np.asarray(mesh.get_array()).reshape(2, 60)
    assert shown[0, 5] == top
    assert mesh.cmap(mesh.norm(shown[1, 7])) == pytest.approx(to_rgba(BEYOND))


def test_a_cell_without_runs_is_left_white_and_that_is_said() -> None:
    panel = swept(5)
    loss = [list(row) for row in panel.loss]
    shares = [list(row) for row in panel.diverged]
    loss[2][3] = shares[2][3] = None
    figure = draw_phases([panel._replace(loss=loss, diverged=shares)])
    ((_, mesh),) = maps_of(figure)
    assert np.argwhere(np.ma.getmaskarray(np.ma.asarray(mesh.get_array())).reshape(5, 5)).tolist() == [[2, 3]]
    assert "white: not run" in words_of(figure)
    assert "white: not run" not in words_of(draw_phases([panel]))


def test_a_map_where_all_diverged_has_no_colour_bar() -> None:
    figure = draw_phases([swept(5, [2.0], (1e3, 4e3))._replace(loss=[[math.inf] * 5] * 5)])
    ((axes, _),) = maps_of(figure)
    assert len(hatched(axes, DENSE)) == 25
    assert "last loss" not in words_of(figure)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_picture_says_how_many_seeds_it_is_of(seeds: int) -> None:
    words = words_of(draw_phases([swept(lambdas=LAMBDAS[:seeds])]))
    assert ("median of 3 seeds" in words) == ("more than half of 3 seeds" in words) == (seeds == 3)
    assert f"λ = {median(LAMBDAS[:seeds]):.3g}" in words


@pytest.mark.parametrize("width", [400, 1200])
def test_no_text_stands_on_the_cells(width: int) -> None:
    figure = draw_phases([swept(9)._replace(title=f"panel {nth}") for nth in range(2)], width=width)
    boxes = text_boxes(figure)
    assert any(EDGE in text for text, _ in boxes)
    for axes, _ in maps_of(figure):
        inside = axes.get_window_extent().shrunk(0.99, 0.99)
        assert [text for text, box in boxes if box.overlaps(inside)] == []


def test_an_edge_outside_the_map_is_neither_drawn_nor_mentioned() -> None:
    figure = draw_phases([swept(9, lrs=(0.01, 0.1))])
    ((axes, _),) = maps_of(figure)
    assert not axes.get_lines()
    assert EDGE not in words_of(figure)
    assert "dotted" not in words_of(figure)


def test_edges_outside_a_profile_are_not_mentioned() -> None:
    low = CURVES._replace(x=[0.0001, 0.001, 0.01])
    assert EDGE not in words_of(draw_phases([low]))
    assert EDGE in words_of(draw_phases([CURVES]))
    assert EDGE not in words_of(
        draw_phases([CURVES._replace(curves=[each._replace(keep=None) for each in CURVES.curves])])
    )


def coloured(losses: list[list[float]], diverged: float = 0.0) -> tuple[Figure, Axes, QuadMesh]:
    """Return the figure of a map of these losses, one row per keep."""
    x, y = spaced(0.01, 1, len(losses[0])), [nth / (len(losses) - 1) for nth in range(len(losses))]
    figure = draw_phases([PhaseMap("", "lr", x, "keep", y, losses, [[diverged] * len(x)] * len(y))])
    ((axes, mesh),) = maps_of(figure)
    return figure, axes, mesh


USUAL = [[1.0 + 0.1 * right + 0.01 * up for right in range(9)] for up in range(8)]


@pytest.mark.parametrize("far", [1e6, 50.0, -40.0])
def test_one_row_does_not_set_the_colours_of_all(far: float) -> None:
    figure, _, mesh = coloured([*USUAL, [far + nth for nth in range(9)]])
    assert (mesh.norm.vmin, mesh.norm.vmax) == (1.0, USUAL[-1][-1])
    bar = next(axes for axes in figure.axes if axes.get_position().width < 0.05)
    arrows = [np.asarray(patch.get_path().vertices)[:, 1] for patch in bar.patches]
    assert any((y > 1).any() if far > 0 else (y < 0).any() for y in arrows)


def test_one_column_does_not_set_the_colours_of_all() -> None:
    _, _, mesh = coloured([[*row, 1e6] for row in USUAL])
    assert mesh.norm.vmax == USUAL[-1][-1]


@pytest.mark.parametrize(
    "losses",
    [
        [*USUAL, [2.5] * 9],  # little above the others
        [*[[1.0] * 9] * 8, [9.0] * 9],  # the others are equal, so that nothing else has colours
        [USUAL[0], USUAL[1], [50.0] * 9],  # three rows
    ],
    ids=["near", "equal", "few"],
)
def test_colours_span_all_rows_if_leaving_one_out_shows_little(losses: list[list[float]]) -> None:
    _, _, mesh = coloured(losses)
    assert mesh.norm.vmax == max(map(max, losses))


@pytest.mark.parametrize("width", [400, 600, 1200])
@pytest.mark.parametrize("panels", [1, 2, 3, 6])
def test_texts_of_maps_neither_overlap_nor_are_cut(panels: int, width: int) -> None:
    name = "A long title of a sweep, with batches of 40 samples"
    maps = [swept(9)._replace(title=f"{name} {nth}") for nth in range(panels)]
    figure = draw_phases(maps, title=f"{name}, and {name}", width=width)
    assert overlapping(figure) == []
    assert clipped(figure) == []


@pytest.mark.parametrize(("panels", "rows"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 2)])
def test_panels_stand_side_by_side_without_overlap(panels: int, rows: int) -> None:
    figure = draw_phases([swept(3)._replace(title=f"panel {nth}") for nth in range(panels)], title="All of them")
    places = [axes.get_position() for axes, _ in maps_of(figure)]
    assert len({round(place.y0, 6) for place in places}) == rows
    assert not any(one.overlaps(other) for nth, one in enumerate(places) for other in places[:nth])
    assert all(f"panel {nth}" in words_of(figure) for nth in range(panels)) == (panels > 1)
    assert "All of them" in words_of(figure)


def test_titles_are_text_and_no_formulas_and_long_ones_are_cut() -> None:
    figure = draw_phases([swept(3)._replace(title="a $x^$ b")] * 2, title="$\\frac " + "long " * 100)
    assert len(rendered(figure, ".png")) > 10_000


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_panels_give_the_same_bytes(suffix: str) -> None:
    assert rendered(draw_phases([swept(3)], width=500), suffix) == rendered(draw_phases([swept(3)], width=500), suffix)


CURVES = Profile(
    "", "lr", [0.01, 0.1, 1.0],
    [
        ProfileCurve("zero_grad", [1.0, 0.1, math.inf], [0.5, 0.05, 2.0], [2.0, 0.2, math.inf], [0.0, 0.0, 1.0], 0.0),
        ProfileCurve("halve_grad", [1.0, None, 0.4], [0.9, None, 0.3], [1.1, None, 0.5], [0.0, None, 0.0], 0.5),
    ],
    [2.0, 4.0, 5.0], 3,
)  # fmt: skip


def test_a_profile_has_curves_crosses_and_edges_of_its_modes() -> None:
    figure = draw_phases([CURVES], title="Curves")
    axes = figure.axes[0]
    drawn = [np.asarray(line.get_xydata()).tolist() for line in axes.get_lines()]
    assert drawn[0][:2] == [[0.01, 1.0], [0.1, 0.1]]
    assert math.isnan(drawn[0][2][1])
    assert [x for x, _ in drawn[1]] == [1.0]  # the cross
    assert [x for x, _ in drawn[2]] == [0.5, 0.5]  # 2/λ
    assert [x for x, _ in drawn[5]] == [0.75, 0.75]  # 3/λ
    assert [y for _, y in drawn[3]] == pytest.approx([1.0, math.nan, 0.4], nan_ok=True)
    assert all(word in words_of(figure) for word in ("zero_grad", "halve_grad", "×: diverged", "range of 3 seeds"))


def test_colours_of_modes_are_those_of_every_picture() -> None:
    colours = [line.get_color() for line in draw_phases([CURVES]).axes[0].get_lines()]
    assert colours == ["#0072B2"] * 3 + ["#009E73"] * 3


@pytest.mark.parametrize("page", [{"width": 400}, {"width": 1200}, {"size": (3.5, 2.5)}], ids=str)
@pytest.mark.parametrize("modes", [TWELVE, ["keep=0.123456789012,every=1234567:sum", "zero_grad"]], ids=len)
@pytest.mark.parametrize("panels", [1, 6])
def test_texts_of_profiles_neither_overlap_nor_are_cut(panels: int, modes: list[str], page: dict[str, Any]) -> None:
    (first, _), title = CURVES.curves, "A panel with a long title"
    many = CURVES._replace(title=title, curves=[first._replace(mode=mode) for mode in modes])
    figure = draw_phases([many] * panels, title=f"{title}, {title}", **page)
    assert overlapping(figure) == []
    assert clipped(figure) == []


def test_a_name_in_a_profile_shows_the_style_of_its_curve() -> None:
    figure = draw_phases([CURVES])
    samples = [line for line in figure.axes[-1].get_lines() if line.get_label() == "_sample"]
    drawn = figure.axes[0].get_lines()[::3]
    assert [line.get_color() for line in samples] == [line.get_color() for line in drawn]
    assert len({str(line.get_linestyle()) + str(line.get_color()) for line in samples}) == 2


@pytest.mark.parametrize(
    ("panels", "message"),
    [
        (list, "at least one panel"),
        (lambda: [swept(3), CURVES], "either only maps or only curves"),
        (lambda: [swept(3)] * 7, "7 panels are too many"),
        (lambda: [swept(3)._replace(diverged=[[None] * 3] * 3)], "no run is finished yet"),
    ],
)
def test_what_is_no_picture_is_refused(panels: Callable[[], list[Any]], message: str) -> None:
    with pytest.raises(PlotError, match=message):
        draw_phases(panels())
