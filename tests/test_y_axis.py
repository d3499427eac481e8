"""The y axis of figures: each quantity has its words and a scale that suits."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from gradlab.plotting import draw
from gradlab.rows import Row
from gradlab.store import RunRecord


def runs_of(values: list[float], per_epoch: int = 1) -> list[tuple[RunRecord, list[Row]]]:
    """Return a run with these values, `per_epoch` in each epoch of four steps."""
    rows = [Row(4 * nth // per_epoch + 1, nth, nth // per_epoch, value) for nth, value in enumerate(values)]
    return [(RunRecord(experiment="line", mode="zero_grad", seed=1, identity="abc", settings={}, status="done"), rows)]


@pytest.mark.parametrize(
    ("quantity", "axis", "per_epoch", "label"),
    [
        ("loss", "step", 1, "training loss"),
        ("loss", "epoch", 2, "mean training loss per epoch"),
        ("loss", "epoch", 1, "mean training loss per epoch"),
        ("validation_loss", "epoch", 1, "validation loss"),
        ("validation_loss", "epoch", 2, "mean validation loss per epoch"),
        ("training_set_loss", "update", 1, "loss on the training set"),
        ("top_5_accuracy", "step", 1, "top 5 accuracy"),
        ("cosine", "step", 1, "cosine to fresh gradient"),
        ("cosine", "epoch", 2, "mean cosine to fresh gradient per epoch"),
        ("fresh_norm", "step", 1, "norm of fresh gradient"),
        ("gradient_norm", "step", 1, "norm of .grad"),
        ("update_norm", "step", 1, "norm of update"),
    ],
)
def test_the_y_axis_says_in_words_what_is_drawn(quantity: str, axis: str, per_epoch: int, label: str) -> None:
    figure = draw(runs_of([4.0, 3.0, 2.0, 1.0], per_epoch), axis=axis, y=quantity)
    assert figure.axes[0].get_ylabel() == label


@pytest.mark.parametrize(
    ("quantity", "values", "scale"),
    [
        ("loss", [1.0, 0.001], "log"),
        ("validation_loss", [1.0, 0.001], "log"),
        ("perplexity", [1000.0, 2.0], "log"),
        ("accuracy", [0.001, 0.9], "linear"),
        ("accuracy", [0.0, 1.0], "linear"),
        ("gradient_norm", [1.0, 0.001], "log"),
        ("cosine", [1.0, 0.001], "linear"),
    ],
)
def test_a_metric_between_0_and_1_has_a_linear_axis(quantity: str, values: list[float], scale: str) -> None:
    assert draw(runs_of(values), y=quantity).axes[0].get_yscale() == scale


def test_all_of_a_metric_between_0_and_1_is_visible() -> None:
    low, high = draw(runs_of([0.5, 0.9, 1.0]), y="accuracy").axes[0].get_ylim()
    assert low < 0.5
    assert 1.0 < high < 1.1


def test_a_cosine_is_drawn_from_minus_1_to_1() -> None:
    assert draw(runs_of([1.0, 0.9]), y="cosine").axes[0].get_ylim() == (-1.05, 1.05)


@pytest.mark.parametrize("width", [400, 1200])
def test_a_long_label_of_the_y_axis_fits(width: int) -> None:
    figure = draw(runs_of([1.0, 0.9, 0.8, 0.7], 2), axis="epoch", y="cosine", width=width)
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]  # matplotlib's
    box, space = figure.axes[0].yaxis.label.get_window_extent(), figure.axes[0].get_window_extent()
    assert box.height <= 1.02 * space.height
    assert box.y0 >= 0


def test_one_evaluation_an_epoch_is_drawn_over_epochs() -> None:
    axes = draw(runs_of([0.5, 0.9, 1.0]), y="accuracy").axes[0]
    assert axes.get_xlabel() == "epoch"
    assert np.asarray(axes.get_lines()[0].get_xdata()).tolist() == [1.0, 2.0, 3.0]


def test_an_epoch_without_a_value_leaves_a_gap_in_places() -> None:
    (record, rows), *_ = runs_of([0.5, 0.9, 1.0])
    axes = draw([(record, [rows[0], rows[2]])], axis="epoch", y="accuracy").axes[0]
    assert np.asarray(axes.get_lines()[0].get_xdata()).tolist() == [1.0, 3.0]
