"""Figures: one curve a mode, told apart by colour and dash, named at its end, and the same bytes everywhere."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from gradlab import experiment, plotting, runs
from gradlab.analysis.quantities import LoggedRun
from gradlab.errors import PlotError
from gradlab.modes import parse
from gradlab.plotting import LABEL_SIZE, draw, labels, rendered, without_theory
from gradlab.plotting.lines import lines_of
from gradlab.plotting.theory_curves import prediction
from gradlab.rows import Geometry, Row
from gradlab.store import RunFolder, RunRecord
from tests.gallery import noisy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Bbox

Runs = list[tuple[RunRecord, list[Row]]]

SEVEN = [
    "zero_grad",
    "no_zero_grad",
    "halve_grad",
    "decay:0.9",
    "accumulate:4",
    "accumulate:4:sum",
    "keep=0.5,every=4",
]
FALL = [5.0, 4.0, 3.0, 2.5, 2.2, 2.0]
SUFFIXES = [".png", ".svg", ".pdf"]


def one(losses: Sequence[float], mode: str = "zero_grad", seed: int = 1, **options: object) -> Runs:
    """Return a run with these losses, one step an epoch."""
    rows = [Row(nth, nth, nth, float(loss)) for nth, loss in enumerate(losses)]
    known = {"task": "noisy_line", "mode": mode, "seed": seed, "optimizer": {"name": "SGD", "lr": 0.1}} | options
    record = RunRecord(
        experiment="line", mode=mode, seed=seed, identity="abc", settings=known, status="done", title="A line"
    )
    return [(record, rows)]


def each(losses: Mapping[str, Sequence[float]]) -> Runs:
    return [run for mode, values in losses.items() for run in one(values, mode)]


def curves_of(figure: Figure) -> list[Line2D]:
    """Return the curves themselves, without the marks where they leave the finite."""
    lines = figure.axes[0].get_lines()
    return [line for line in lines if line.get_marker() != "X" and line.get_label() not in ("_raw", "_sample")]


def marks_of(figure: Figure) -> list[Line2D]:
    return [line for line in figure.axes[0].get_lines() if line.get_marker() == "X"]


def points(line: Line2D) -> list[list[float]]:
    found: list[list[float]] = np.asarray(line.get_xydata()).tolist()
    return found


def labels_of(figure: Figure) -> list[Text]:
    """Return the names at the curves, in the order of the curves: bold, and smaller than the title."""
    bold = [text for text in figure.axes[0].texts if text.get_fontweight() == "bold"]
    return [text for text in bold if float(text.get_fontsize()) <= LABEL_SIZE]


def boxes_of(figure: Figure, texts: Sequence[Text]) -> list[Bbox]:
    """Return where the texts stand in pixels, without their arrows, as Agg draws them."""
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]  # matplotlib's
    return [Text.get_window_extent(text) for text in texts]


def words_of(figure: Figure) -> str:
    axes = figure.axes[0]
    return "\n".join(
        [axes.get_xlabel(), axes.get_ylabel(), *(text.get_text() for text in (*figure.texts, *axes.texts))]
    )


# Formats


@pytest.mark.parametrize(
    ("suffix", "begin"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")]
)
def test_the_suffix_says_the_format(suffix: str, begin: bytes) -> None:
    assert rendered(draw(one(FALL)), suffix).startswith(begin)


@pytest.mark.parametrize("file", ["loss", "loss.jpg", "loss.png.gz", ".png"])
def test_another_suffix_is_an_error_that_names_those_there_are(file: str) -> None:
    with pytest.raises(PlotError, match=r"\.png, \.svg, \.pdf"):
        plotting.check_formats([Path("fine.png"), Path(file)])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_rows_give_the_same_bytes(suffix: str) -> None:
    runs = each({"zero_grad": FALL, "no_zero_grad": [1, 10, 1000, math.inf]})
    assert rendered(draw(runs), suffix) == rendered(draw(runs), suffix)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rendering_a_figure_does_not_change_it(suffix: str) -> None:
    figure = draw(one(FALL))
    first = rendered(figure, suffix)
    assert all(rendered(figure, other) for other in SUFFIXES)
    assert rendered(figure, suffix) == first


DIGESTS = """
import hashlib, sys
from pathlib import Path
from gradlab import plotting
from gradlab.store import RunFolder
run = RunFolder(Path("run"))
figure = plotting.draw([(run.read(), run.rows().rows)])
for suffix in (".png", ".svg", ".pdf"):
    print(hashlib.sha256(plotting.rendered(figure, suffix)).hexdigest())
"""


@pytest.fixture
def logged() -> Runs:
    """Return a run that lies in the folder `run`."""
    ((record, rows),) = one([5.0, 0.02, 0.5, math.nan])
    folder = RunFolder(Path("run"))
    folder.path.mkdir()
    folder.write(record)
    with folder.log() as log:
        for row in rows:
            log.append(row)
    return [(record, rows)]


def in_a_process(**environment: str) -> list[str]:
    """Return the digests of the figure of the folder `run`."""
    answer = subprocess.run(
        [sys.executable, "-c", DIGESTS], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return answer.stdout.split()


def test_a_users_matplotlibrc_does_not_change_the_bytes(logged: Runs) -> None:
    Path("styled").mkdir()
    Path("styled/matplotlibrc").write_text(
        "figure.facecolor: black\nfont.size: 20\nfont.family: monospace\nlines.linewidth: 9\nsavefig.dpi: 50\n"
        "svg.fonttype: none\nsavefig.bbox: tight\naxes.grid: True\npath.simplify: False\naxes.labelsize: 20\n"
    )
    figure = draw(logged)
    here = [hashlib.sha256(rendered(figure, suffix)).hexdigest() for suffix in SUFFIXES]
    assert in_a_process(MPLCONFIGDIR=str(Path("styled").resolve())) == here


@pytest.mark.parametrize("width", [300, 600, 1200, 2001])
def test_a_png_is_as_many_pixels_wide_as_asked(width: int) -> None:
    png = rendered(draw(one(FALL), width=width), ".png")
    assert int.from_bytes(png[16:20], "big") == width


@pytest.mark.parametrize("size", [(3.5, 2.5), (7.0, 3.0)])
def test_a_figure_has_the_size_asked_for_in_inches(size: tuple[float, float]) -> None:
    figure = draw(one(FALL), size=size)
    assert tuple(figure.get_size_inches()) == size
    png = rendered(figure, ".png")
    assert [int.from_bytes(png[at : at + 4], "big") / 300 for at in (16, 20)] == list(size)
    assert rendered(draw(one(FALL), size=size, width=700), ".png")[16:20] == (700).to_bytes(4, "big")
    assert f"/MediaBox [ 0 0 {size[0] * 72:g} {size[1] * 72:g} ]".encode() in rendered(figure, ".pdf")


def test_fonts_of_a_column_are_small_but_readable() -> None:
    (label,) = labels_of(draw(one(FALL), size=(3.5, 2.5)))
    assert 7 <= float(label.get_fontsize()) <= 9


def test_pdf_fonts_are_embedded_as_truetype() -> None:
    pdf = rendered(draw(one(FALL)), ".pdf")
    assert b"/Type3" not in pdf
    assert b"/CIDFontType2" in pdf


# Curves


def test_a_curve_is_drawn_through_its_losses() -> None:
    (line,) = curves_of(draw(one(FALL)))
    assert points(line) == [[nth, loss] for nth, loss in enumerate(FALL)]


def test_each_of_seven_modes_has_a_colour_and_a_dash_of_its_own() -> None:
    lines = curves_of(draw(each({mode: [y + nth for y in FALL] for nth, mode in enumerate(SEVEN)})))
    assert len({line.get_color() for line in lines}) == len(SEVEN)
    # matplotlib has no public way to ask for the dashes of a line
    assert len({str(vars(line)["_dash_pattern"]) for line in lines}) == len(SEVEN)


@pytest.mark.parametrize("modes", [["zero_grad"], ["halve_grad", "decay:0.9", "zero_grad"], SEVEN[::-1]])
def test_a_usual_mode_looks_the_same_in_every_picture(modes: list[str]) -> None:
    apart = {mode: [y + nth for y in FALL] for nth, mode in enumerate(modes)}
    usual = curves_of(draw(one(FALL)))[0]
    line = curves_of(draw(each(apart)))[modes.index("zero_grad")]
    assert (line.get_color(), line.get_linestyle()) == (usual.get_color(), usual.get_linestyle())


def test_usual_modes_keep_their_colours_among_many_modes() -> None:
    many = [f"decay:0.{nth}" for nth in range(1, 10)] + ["halve_grad", "zero_grad"]
    alone = curves_of(draw(each({"zero_grad": FALL, "halve_grad": [9.0] * 6})))
    lines = lines_of(each({mode: [y + nth for y in FALL] for nth, mode in enumerate(many)}), "step")
    looks = {line.name: line.colour for line in lines}
    assert [looks["zero_grad"], looks["halve_grad"]] == [line.get_color() for line in alone]
    usual = {looks["zero_grad"], looks["halve_grad"]}
    assert not usual & {line.colour for line in lines if line.name.startswith("decay")}
    assert len({(line.colour, str(line.dash)) for line in lines}) == len(many)


def test_seeds_of_a_mode_are_a_median_with_a_band_of_their_range() -> None:
    figure = draw([run for seed, y in enumerate([5.0, 1.0, 2.0]) for run in one([y, y + 1], seed=seed)])
    (line,) = curves_of(figure)
    (band,) = figure.axes[0].collections
    assert points(line) == [[0.0, 2.0], [1.0, 3.0]]
    corners = {(x, y) for x, y in np.asarray(band.get_paths()[0].vertices).tolist()}
    assert corners == {(0.0, 1.0), (0.0, 5.0), (1.0, 2.0), (1.0, 6.0)}
    assert "median and range of 3 seeds" in words_of(figure)


def test_one_seed_has_no_band() -> None:
    figure = draw(one(FALL))
    assert not figure.axes[0].collections
    assert "seed 1" in words_of(figure)


def test_the_first_of_two_equal_curves_is_wide_and_pale() -> None:
    nearly = [loss * 1.0001 for loss in FALL]
    first, second = curves_of(draw([*one(FALL), *one(nearly, engine="tensorflow")]))
    assert first.get_linewidth() > 3 * second.get_linewidth()
    assert (first.get_alpha(), second.get_alpha()) == (0.3, None)
    assert second.get_linestyle() == "--"


def test_every_covered_curve_is_wider_than_what_covers_it() -> None:
    lines = curves_of(draw(each(dict.fromkeys(["zero_grad", "halve_grad", "decay:0.9"], FALL))))
    assert [line.get_linewidth() for line in lines] == sorted({line.get_linewidth() for line in lines}, reverse=True)
    assert [line.get_zorder() for line in lines] == sorted({line.get_zorder() for line in lines})
    assert [line.get_alpha() for line in lines] == [0.3, 0.3, None]


def test_a_shorter_curve_under_a_longer_one_is_wide_and_pale_too() -> None:
    first, second = curves_of(draw([*one(FALL[:3]), *one(FALL, "halve_grad")]))
    assert first.get_linewidth() > 3 * second.get_linewidth()


def test_curves_that_differ_somewhere_are_drawn_alike() -> None:
    apart = [*FALL[:-1], FALL[-1] * 1.2]
    for several in ([*one(FALL), *one(apart, engine="tensorflow")], each({"zero_grad": FALL, "halve_grad": apart})):
        assert {line.get_linewidth() for line in curves_of(draw(several))} == {2.0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": {"name": "vanilla", "lr": 0.1}}, "optimizer\N{NO-BREAK SPACE}vanilla"),
        ({"task_options": {"noise": 2.0}}, "noise\N{NO-BREAK SPACE}2"),
        ({"task_options": {"lr": 2.0}}, "task_options.lr\N{NO-BREAK SPACE}2"),
    ],
)
def test_a_setting_that_differs_is_in_the_labels(options: dict[str, Any], words: str) -> None:
    lines = lines_of([*one(FALL), *one(FALL, **options)], "step")
    assert lines[1].name == f"zero_grad, {words}"


def test_a_label_shows_the_style_of_its_line() -> None:
    figure = draw(each({mode: [y + nth for y in FALL] for nth, mode in enumerate(SEVEN)}))
    samples = [line for line in figure.axes[0].get_lines() if line.get_label() == "_sample"]
    assert len(samples) == len(SEVEN)
    for line, sample in zip(curves_of(figure), samples, strict=True):
        assert (line.get_color(), vars(line)["_dash_pattern"]) == (sample.get_color(), vars(sample)["_dash_pattern"])


def test_smoothing_draws_the_curve_itself_faintly_behind() -> None:
    figure = draw(one(FALL), smooth=3)
    (raw,) = [line for line in figure.axes[0].get_lines() if line.get_label() == "_raw"]
    (line,) = curves_of(figure)
    assert points(raw) == [[nth, loss] for nth, loss in enumerate(FALL)]
    assert points(line) != points(raw)
    assert (raw.get_alpha() or 1) < 0.5
    assert raw.get_zorder() < line.get_zorder()
    assert "running median of 3 steps" in words_of(figure)


def test_a_noisy_curve_is_thin_with_a_band() -> None:
    figure = draw(one(noisy(600)))
    (line,) = curves_of(figure)
    assert len(points(line)) == 60
    assert line.get_linewidth() < 2
    assert len(figure.axes[0].collections) == 1
    assert "the middle 80%" in words_of(figure)


def test_marks_of_curves_that_end_together_do_not_overlap() -> None:
    figure = draw(each({mode: [1.0, math.nan] for mode in SEVEN}))
    places = [figure.axes[0].transData.transform(points(mark)[0])[0] for mark in marks_of(figure)]
    assert len(places) == 3  # the labels name them all
    size = marks_of(figure)[0].get_markersize() * figure.dpi / 72
    assert all(abs(one - other) >= size for one, other in pairwise(sorted(places)))


def test_different_losses_on_one_axis_are_named_in_the_caption() -> None:
    l1, mse = (one(FALL, task_options={"loss": loss}) for loss in ("l1", "mse"))
    assert "different losses on one axis: l1, mse" in words_of(draw([*l1, *mse]))
    assert "different tasks on one axis: digits, noisy_line" in words_of(draw([*one(FALL), *one(FALL, task="digits")]))
    assert "different" not in words_of(draw([*l1, *one(FALL, engine="tensorflow", task_options={"loss": "l1"})]))
    assert "different" not in words_of(draw([*l1, *mse], y="accuracy"))


def test_an_engine_is_named_where_the_loop_is_not() -> None:
    figure = draw([*one(FALL), *one(FALL, engine="tensorflow")])
    assert [label.get_text().replace("\n", " ") for label in labels_of(figure)] == [
        "zero_grad", "zero_grad, engine\N{NO-BREAK SPACE}tensorflow"
    ]  # fmt: skip


@pytest.mark.parametrize("axis", ["step", "update", "epoch"])
def test_the_axis_asked_for_is_drawn_and_named(axis: str) -> None:
    figure = draw(one(FALL), axis=axis)
    assert figure.axes[0].get_xlabel() == axis
    assert points(curves_of(figure)[0])[0] == [1.0 if axis == "epoch" else 0.0, FALL[0]]


def test_an_unknown_axis_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(PlotError, match=r"unknown axis 'steps'; did you mean 'step'\? Known: step, update, epoch"):
        draw(one(FALL), axis="steps")


@pytest.mark.parametrize("runs", [[], one([])], ids=["no run", "a run without rows"])
def test_nothing_to_draw_is_an_error(runs: Runs) -> None:
    with pytest.raises(PlotError, match="no rows yet"):
        draw(runs)


def test_a_run_without_rows_is_left_out_beside_others() -> None:
    assert len(curves_of(draw(one([], "halve_grad") + one(FALL)))) == 1


def test_the_title_is_the_experiment_s_unless_another_is_given() -> None:
    assert "A line" in words_of(draw(one(FALL)))
    assert "A line" not in words_of(draw(one(FALL), title="Mine"))
    assert "Mine" in words_of(draw(one(FALL), title="Mine"))


def of_experiment(name: str, title: str) -> Runs:
    return [(replace(record, experiment=name, title=title), rows) for record, rows in one(FALL)]


def test_similar_or_long_titles_are_replaced_by_experiment_names() -> None:
    def heading(one_: str, other: str) -> str:
        figure = draw([*of_experiment("first", one_), *of_experiment("second", other)])
        return next(text.get_text() for text in figure.texts if text.get_fontweight() == "bold")

    assert heading("A line", "A circle") == "A line, A circle"
    assert heading("A long line of ten points", "A long line of nine points") == "first, second"
    assert heading("One " + "long " * 10, "Another " + "long " * 10) == "first, second"


@pytest.mark.parametrize(
    ("epochs", "ticks"), [(3, [1, 2, 3]), (10, [*range(1, 11)]), (12, [1, 5, 10]), (30, [1, 5, 10, 15, 20, 25, 30])]
)
def test_epochs_are_numbered_from_the_first(epochs: int, ticks: list[int]) -> None:
    axes = draw(one([1.0] * epochs), axis="epoch").axes[0]
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == ticks


def test_what_all_runs_share_is_written_below_the_title() -> None:
    assert "noisy_line  ·  SGD  ·  lr 0.1" in words_of(draw(one(FALL)))


def test_runs_that_differ_in_a_setting_are_curves_named_by_it() -> None:
    runs = [run for lr in (0.1, 0.2) for run in one(FALL, optimizer={"name": "SGD", "lr": lr})]
    figure = draw(runs)
    assert len(curves_of(figure)) == 2
    assert all(f"lr\N{NO-BREAK SPACE}{lr}" in words_of(figure) for lr in (0.1, 0.2))


# Scale


def test_a_users_mode_is_labelled_by_name_and_not_by_source() -> None:
    figure = draw([*one(FALL), *one(FALL, "mine.py:clear", mode_source="26a884bb")])
    assert [label.get_text() for label in labels_of(figure)] == ["zero_grad", "mine.py:clear"]


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        ([1, 99], "linear"), ([1, 100], "log"), ([1e-9, 1e-8, 9e-8], "linear"), ([1e-9, 1e-6], "log"),
        ([-1, 1000], "linear"), ([5], "linear"), ([0, 0], "linear"), ([0, 1, 1000], "log"),
        ([math.nan, 1, 2], "linear"), ([1, 2, math.inf], "linear"), ([1, 1000, math.nan], "log"),
    ],
)  # fmt: skip
def test_the_scale_is_logarithmic_from_two_decades_on(losses: list[float], scale: str) -> None:
    assert draw(one(losses)).axes[0].get_yscale() == scale


def test_one_mode_that_explodes_does_not_flatten_the_others() -> None:
    top = draw(each({"zero_grad": FALL, "no_zero_grad": [5.0, 1e10, 1e20, 1e30]})).axes[0].get_ylim()[1]
    assert top < 1e8


EXTREME = [
    [0.0], [0.0, 0.0], [-3.0, -3.0], [5e-324, 0.0], [5e-324, 1e-320], [1e-300, 1e300], [1e308, 1e308],
    [1e303, 1.7e308], [-1e308, 1e308], [1.0, 1e308], [math.nan], [math.inf, math.inf], [-math.inf, 1.0],
    [math.nan, 1.0], [1.0, math.nan], [1.0, 1.0 + 2e-16],
]  # fmt: skip


@pytest.mark.parametrize("losses", EXTREME, ids=str)
def test_no_losses_keep_a_figure_from_being_drawn(losses: list[float]) -> None:
    assert rendered(draw(one(losses)), ".png")


@settings(max_examples=25)
@given(st.lists(st.lists(st.floats(), max_size=6), min_size=1, max_size=4).filter(any))
def test_no_runs_keep_a_figure_from_being_drawn(losses: list[list[float]]) -> None:
    assert rendered(draw([run for nth, values in enumerate(losses) for run in one(values, SEVEN[nth % 2])]), ".svg")


# Where a curve leaves the finite


def test_a_mark_and_words_say_where_a_curve_leaves_the_finite() -> None:
    figure = draw(each({"zero_grad": FALL, "no_zero_grad": [5.0, 6.0, 7.0, math.nan, math.inf, math.inf]}))
    (mark,) = marks_of(figure)
    assert points(mark) == [[2.0, 7.0]]
    assert "no_zero_grad\n× not finite from step 3" in words_of(figure)
    assert points(curves_of(figure)[1]) == [[0.0, 5.0], [1.0, 6.0], [2.0, 7.0]]


def test_a_curve_that_stays_finite_has_no_mark() -> None:
    figure = draw(one(FALL))
    assert not marks_of(figure)
    assert "not finite" not in words_of(figure)


def test_a_curve_without_finite_points_has_a_mark_and_a_label() -> None:
    figure = draw(each({"zero_grad": FALL, "no_zero_grad": [math.nan] * 6}))
    (mark,) = marks_of(figure)
    assert points(mark)[0][0] == 0.0
    assert "no_zero_grad\n× not finite from step 0" in words_of(figure)


def test_a_curve_beyond_the_top_is_marked_where_it_leaves() -> None:
    figure = draw(each({"zero_grad": FALL, "no_zero_grad": [5.0, 6.0, 1e20, math.inf]}))
    (mark,) = marks_of(figure)
    ((x, y),) = points(mark)
    top = figure.axes[0].get_ylim()[1]
    assert y == top
    assert x == pytest.approx(1 + (top - 6.0) / (1e20 - 6.0))


def test_a_median_that_is_not_finite_ends_the_curve() -> None:
    figure = draw([run for seed in range(3) for run in one([1.0, 2.0, math.nan if seed else 3.0], seed=seed)])
    assert "× not finite from step 2" in words_of(figure)


# Theory

# Full batches, lr·λ = 0.2 and 0.05: curvatures, amplitudes and floor as a run records them.
KNOWN = {"curvatures": [2.0, 0.5], "amplitudes": [1.0, -2.0], "floor": 0.125}
STEPS = 200


def by_hand(keep: float, steps: int, known: Mapping[str, Any] = KNOWN, lr: float = 0.1) -> list[float]:
    """Return the losses of the quadratic, update by update."""
    losses = []
    w, kept = list(known["amplitudes"]), [0.0] * len(known["amplitudes"])
    for _ in range(steps):
        losses.append(known["floor"] + sum(c * e * e / 2 for c, e in zip(known["curvatures"], w, strict=True)))
        kept = [keep * g + c * e for g, c, e in zip(kept, known["curvatures"], w, strict=True)]
        w = [e - lr * g for e, g in zip(w, kept, strict=True)]
    return losses


def knowing(runs: Runs, known: dict[str, Any] | None = KNOWN) -> Runs:
    """Return the runs with a record of their quadratic."""
    return [(replace(record, quadratic=known), rows) for record, rows in runs]


def theory_of(figure: Figure) -> list[Line2D]:
    return [line for line in curves_of(figure) if line.is_dashed()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Runs]:
    """Return the runs of straight_line_mse under five modes, by mode."""
    modes = ["zero_grad", "no_zero_grad", "halve_grad", "decay:0.9", "keep=-0.25"]
    chosen = experiment.load("straight_line_mse", [experiment.Override(("modes",), modes, "--mode")])
    results = runs.run(chosen, tmp_path_factory.mktemp("runs")).runs
    return {mode: [(RunFolder(one.folder).read(), one.rows)] for mode, one in zip(modes, results, strict=True)}


# The root of twice the loss is the length of the error, so that roots are as far apart as the weights at most. These
# lie within 1, and each of 200 steps rounds weight and gradient at 2⁻²⁴ of that.
ROUNDING = STEPS * 2 * 2.0**-24


def distance(measured: Line2D, predicted: Line2D) -> float:
    """Return how far apart the roots of two curves are at most, both at the same steps."""
    ours, theirs = points(measured), points(predicted)
    assert [x for x, _ in ours] == [x for x, _ in theirs]
    assert len(ours) == STEPS
    return max(abs(math.sqrt(y) - math.sqrt(z)) for (_, y), (_, z) in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("mode", ["zero_grad", "no_zero_grad", "halve_grad", "decay:0.9", "keep=-0.25"])
def test_recorded_theory_equals_measured_losses_but_for_rounding(mode: str, trained: dict[str, Runs]) -> None:
    measured, predicted = curves_of(draw(trained[mode], theory=True, axis="step"))
    assert distance(measured, predicted) < ROUNDING


@pytest.mark.parametrize("mode", ["zero_grad", "no_zero_grad", "halve_grad", "decay:0.9", "keep=-0.25"])
def test_theory_of_a_slightly_different_keep_is_clearly_off(mode: str, trained: dict[str, Runs]) -> None:
    ((record, rows),) = trained[mode]
    other = replace(record, mode=f"keep={parse(mode).keep + 0.01}")
    measured, predicted = curves_of(draw([(other, rows)], theory=True, axis="step"))
    assert distance(measured, predicted) > 50 * ROUNDING


@pytest.mark.parametrize(("axis", "first"), [("step", 0.0), ("update", 0.0), ("epoch", 1.0)])
def test_theory_is_drawn_at_the_places_of_the_curve(axis: str, first: float) -> None:
    measured, predicted = curves_of(draw(knowing(one(FALL)), axis=axis, theory=True))
    assert [x for x, _ in points(predicted)] == [x for x, _ in points(measured)]
    assert points(predicted)[0] == [first, 2.125]


@pytest.mark.parametrize("mode", ["accumulate:4", "accumulate:4:sum", "keep=0.5,every=4"])
def test_every_does_not_matter_to_theory_on_full_batches(mode: str) -> None:
    figure = draw(knowing(one(FALL, mode)), theory=True)
    assert [y for _, y in points(theory_of(figure)[0])] == pytest.approx(by_hand(parse(mode).keep, len(FALL)))


def test_theory_is_dashed_on_a_broad_pale_curve_of_its_colour() -> None:
    figure = draw(knowing(each({"zero_grad": FALL, "no_zero_grad": FALL})), theory=True)
    lines = curves_of(figure)
    for measured, predicted in (lines[:2], lines[2:]):
        assert (measured.get_linestyle(), predicted.is_dashed()) == ("-", True)
        assert measured.get_color() == predicted.get_color()
        assert measured.get_linewidth() > 2 * predicted.get_linewidth()
        assert (measured.get_alpha() or 1) < (predicted.get_alpha() or 1)
        assert measured.get_zorder() < predicted.get_zorder()
    assert lines[0].get_color() != lines[2].get_color()


def test_the_caption_explains_dashes_where_theory_is_drawn() -> None:
    assert "dashed: theory" in words_of(draw(knowing(one(FALL)), theory=True))
    assert "theory" not in words_of(draw(knowing(one(FALL))))


def test_without_being_asked_for_no_theory_is_drawn() -> None:
    assert len(curves_of(draw(knowing(one(FALL))))) == 1


def test_theory_of_several_seeds_is_the_median_of_theirs() -> None:
    floors = {1: 1.0, 2: 2.0, 3: 9.0}
    runs = [run for seed, floor in floors.items() for run in knowing(one(FALL, seed=seed), KNOWN | {"floor": floor})]
    (predicted,) = theory_of(draw(runs, theory=True))
    assert [y for _, y in points(predicted)] == pytest.approx(by_hand(0.0, len(FALL), KNOWN | {"floor": 2.0}))


@pytest.mark.parametrize("quantity", Geometry._fields)
@pytest.mark.parametrize("mode", ["no_zero_grad", "halve_grad"])
def test_theory_of_the_geometry_is_that_of_the_training(mode: str, quantity: str) -> None:
    named = [experiment.Override((key,), value, key) for key, value in {"modes": [mode], "log": ["geometry"]}.items()]
    (result,) = runs.run(experiment.load("straight_line_mse", named), Path("runs")).runs
    run = LoggedRun(RunFolder(result.folder).read(), result.rows)
    figure = draw([(run.record, run.values_of(quantity))], y=quantity, theory=True, axis="step")
    measured, predicted = (np.asarray(points(line)) for line in curves_of(figure))
    assert without_theory([(run.record, run.values_of(quantity))], quantity) == []
    assert measured.shape == predicted.shape == (STEPS, 2)
    # float32 rounds the loss's terms, of size 1 to 10, at 2⁻²⁴; a cosine divides this by gradients down to 0.005.
    assert np.abs(measured - predicted).max() < (5e-2 if quantity == "cosine" else 1e-4)
    assert np.abs(measured - predicted).mean() < 1e-3


def test_what_theory_does_not_predict_is_an_error() -> None:
    with pytest.raises(PlotError, match="theory does not predict accuracy, only loss, fresh_norm, gradient_norm"):
        without_theory(knowing(one(FALL)), "accuracy")
    assert len(curves_of(draw(knowing(one([0.5, 0.6])), y="accuracy", theory=True))) == 1


def test_an_undefined_cosine_of_theory_is_left_out() -> None:
    known = KNOWN | {"curvatures": [10.0], "amplitudes": [1.0]}  # lr·λ = 1: one step to the minimum
    (predicted,) = theory_of(draw(knowing(one([1.0, 1.0, 1.0]), known), y="cosine", theory=True))
    assert points(predicted) == [[0.0, 1.0]]


def test_theory_that_leaves_the_finite_is_cut_there() -> None:
    known = KNOWN | {"curvatures": [1e12]} | {"amplitudes": [1.0]}
    figure = draw(knowing(one([5.0] * 12), known), theory=True)
    expected = by_hand(0.0, 12, known)
    beyond = next(nth for nth, loss in enumerate(expected) if loss > 1e100)
    assert 0 < beyond < 12
    (predicted,) = theory_of(figure)
    assert [y for _, y in points(predicted)] == pytest.approx(expected[:beyond])
    assert rendered(figure, ".png")


def test_a_direction_that_starts_at_its_minimum_stays_there() -> None:
    known = KNOWN | {"curvatures": [1e12, 0.5], "amplitudes": [0.0, 1.0]}
    (predicted,) = theory_of(draw(knowing(one([5.0] * 50), known), theory=True))
    assert [y for _, y in points(predicted)] == pytest.approx(by_hand(0.0, 50, known))


SOME = st.floats(-1e99, 1e99)
ABOVE = st.floats(1e-300, 1e99)


@given(
    st.lists(st.tuples(ABOVE, SOME), min_size=1, max_size=3), SOME, ABOVE, st.floats(-1e300, 1e300), st.integers(1, 40)
)
def test_theory_is_computed_for_any_numbers_of_a_record(
    directions: list[tuple[float, float]], floor: float, lr: float, keep: float, steps: int
) -> None:
    known = {"curvatures": [c for c, _ in directions], "amplitudes": [w for _, w in directions], "floor": floor}
    runs = knowing(one([5.0] * steps, f"keep={keep!r}", optimizer=SGD | {"lr": lr}), known)
    (line,) = lines_of(runs, "step")
    predicted = prediction(line, "step")
    assert predicted
    assert len(predicted.median) == steps


SGD = {"name": "SGD", "lr": 0.1}
BATCHES = [(record, [row._replace(epoch=0) for row in rows]) for record, rows in knowing(one(FALL))]


@pytest.mark.parametrize(
    ("runs", "reason", "mend"),
    [
        (knowing(one(FALL), None), "an older gradlab trained it and did not record", "--fresh"),
        (knowing(one(FALL), {}), "the loss is not a quadratic function", "gradlab run straight_line_mse"),
        (BATCHES, "an epoch has several batches", "gradlab run straight_line_mse"),
        (knowing(one(FALL, optimizer=SGD | {"momentum": 0.9})), "momentum 0.9", "gradlab run straight_line_mse"),
        (knowing(one(FALL, "mine.py:own")), "mine.py:own does not follow the rule", "gradlab run straight_line_mse"),
    ],
    ids=["old", "no quadratic", "batches", "momentum", "another rule"],
)
def test_without_any_theory_two_lines_say_why_and_what_has_it(runs: Runs, reason: str, mend: str) -> None:
    with pytest.raises(PlotError) as caught:
        without_theory(runs)
    first, second = str(caught.value).split("\n")
    assert first.startswith("No theory to draw: ")
    assert reason in first
    assert mend in second
    assert len(second) <= 90


def test_a_mode_of_the_user_s_own_has_no_theory() -> None:
    Path("mine.py").write_text("def own(parameters, update):\n    pass\n")
    with pytest.raises(PlotError, match=r"mine\.py:own does not follow the rule"):
        without_theory(knowing(one(FALL, "mine.py:own")))


def test_curves_without_theory_are_named_beside_those_with_it() -> None:
    runs = knowing(one(FALL)) + knowing(one(FALL, "no_zero_grad"), {}) + knowing(one(FALL, "halve_grad"), {})
    assert len(theory_of(draw(runs, theory=True))) == 1
    (line,) = without_theory(runs)
    assert line.startswith("No theory for no_zero_grad; halve_grad: the loss is not a quadratic function")


def test_curves_without_theory_are_solid_and_of_usual_width() -> None:
    runs = knowing(one(FALL)) + knowing(one([9.0] * 6, "no_zero_grad"), {})
    usual = curves_of(draw(runs))[1]
    line = curves_of(draw(runs, theory=True))[-1]
    assert (line.get_linewidth(), line.get_alpha(), line.get_linestyle()) == (usual.get_linewidth(), None, "-")


def test_a_curve_of_which_one_seed_has_no_theory_has_none() -> None:
    runs = knowing(one(FALL)) + one(FALL, seed=2) + knowing(one(FALL, "no_zero_grad"))
    (predicted,) = theory_of(draw(runs, theory=True))
    assert [y for _, y in points(predicted)] == pytest.approx(by_hand(1.0, len(FALL)))


@pytest.mark.parametrize("width", [400, 600, 1200])
def test_a_caption_of_any_length_fits_the_figure(width: int) -> None:
    many = [run for seed in (1, 2) for run in knowing(one(FALL, seed=seed, task_options={"batch_size": 12345}))]
    figure = draw(many, theory=True, width=width)
    (below,) = boxes_of(figure, [text for text in figure.texts if "dashed" in text.get_text()])
    assert below.x1 <= width


# Names at the curves


def test_each_curve_is_named_at_its_end_and_there_is_no_legend() -> None:
    ends = {"zero_grad": 1.0, "no_zero_grad": 9.0, "halve_grad": 5.0}
    figure = draw(each({mode: [5.0, end] for mode, end in ends.items()}))
    assert figure.axes[0].get_legend() is None
    assert not figure.legends
    labels = labels_of(figure)
    assert [label.get_text() for label in labels] == list(ends)
    axes = figure.axes[0]
    boxes = boxes_of(figure, labels)
    for box, end in zip(boxes, ends.values(), strict=True):
        _, at = axes.transData.transform((1.0, end))
        assert box.x0 > axes.bbox.x1  # pixels: right of the axes,
        assert abs((box.y0 + box.y1) / 2 - at) < 4  # at the height of the curve's end


def test_a_name_has_the_colour_of_its_curve() -> None:
    figure = draw(each(dict.fromkeys(SEVEN, FALL)))
    assert [label.get_color() for label in labels_of(figure)] == [line.get_color() for line in curves_of(figure)]


CROWDS: dict[str, dict[str, list[float]]] = {
    "one end": dict.fromkeys(SEVEN, FALL),
    "one end, at the bottom": {mode: [10.0, 0.0] for mode in SEVEN},
    "one end, at the top": {mode: [0.0, 10.0] for mode in SEVEN},
    "all nan": {mode: [1.0, math.nan] for mode in SEVEN},
    "two ends": {mode: [5.0, float(nth % 2)] for nth, mode in enumerate(SEVEN)},
    "many of two lines, at the bottom": {f"decay:0.{nth}": [9.0, 0.0, math.nan] for nth in range(10, 24)},
    "long names": {f"keep=0.{nth}23456789012,every=1234567:sum": FALL for nth in range(4)},
}


@pytest.mark.parametrize("width", [600, 1200])
@pytest.mark.parametrize("crowd", CROWDS)
def test_names_do_not_overlap_and_lie_within_the_figure(crowd: str, width: int) -> None:
    figure = draw(each(CROWDS[crowd]), width=width)
    texts = labels_of(figure)
    assert len(texts) == len(CROWDS[crowd])
    boxes = sorted(boxes_of(figure, texts), key=lambda box: float(box.y0))
    for below, above in pairwise(boxes):
        assert above.y0 >= below.y1 - 1  # pixels: descenders may touch
    assert all(0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= figure.bbox.y1 for box in boxes)


@pytest.mark.parametrize("width", [600, 1200])
def test_title_and_labels_lie_within_the_figure(width: int) -> None:
    figure = draw([run for seed in (1, 2) for run in one([1e-7, 1e5], seed=seed)], width=width)
    above = figure.axes[0].texts
    assert above
    texts: list[Any] = [*above, figure.axes[0].xaxis.label, figure.axes[0].yaxis.label]
    for box in boxes_of(figure, texts):
        assert -1 <= box.x0 <= box.x1 <= width + 1
        assert -1 <= box.y0 <= box.y1 <= 0.6 * width + 1


# `_apart` is called directly: a figure for each of a hundred examples would take too long.


def test_a_label_moves_only_where_another_is_in_its_way() -> None:
    assert labels._spread([5.0, 50.0, 52.0, 90.0], [10.0] * 4, 100.0) == [5.0, 46.0, 56.0, 90.0]


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(1, 10)), min_size=1, max_size=8), st.floats(80, 200))
def test_places_are_apart_and_within_the_space(wanted: list[tuple[float, float]], space: float) -> None:
    heights = [height for _, height in wanted]
    places = labels._spread([at for at, _ in wanted], heights, space)
    assert len(places) == len(wanted)
    assert all(-0.1 <= place <= space + 0.1 for place in places)
    order = sorted(range(len(places)), key=lambda nth: places[nth])
    for below, above in pairwise(order):
        assert places[above] - places[below] >= (heights[below] + heights[above]) / 2 - 0.5  # points, unseen
