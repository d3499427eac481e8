"""The result of gradlab.run: read by mode and seed, shown as text, HTML and picture."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest
import torch

import gradlab
from gradlab.errors import CheckError, GradlabError, PlotError, UnknownRunError
from tests.api.making import MODES, failing, short


def test_a_result_is_read_by_mode_and_seed() -> None:
    result = short(seeds=2)
    assert [(run.mode, run.seed) for run in result] == [(mode, seed) for mode in MODES for seed in (0, 1)]
    assert result["no_zero_grad"].runs == result.runs[2:]
    one = result["no-zero-grad", 1]
    assert (one.mode, one.seed, one.status, one.steps) == ("no_zero_grad", 1, "done", 6)
    assert one.losses.shape == (6,)
    assert one.losses.dtype == np.float64
    assert one.losses.tolist() == [row.loss for row in one.rows]
    assert repr(one).startswith("<run no_zero_grad seed 1: status done, verdict ")


def test_an_unknown_mode_or_seed_is_an_error_of_both_kinds() -> None:
    result: Any = short()
    for key, message in {
        "zero": "unknown mode of this result 'zero'",
        ("zero_grad", 3): "has no seed 3. Seeds: 42",
    }.items():
        with pytest.raises(UnknownRunError) as raised:
            result[key]
        assert isinstance(raised.value, KeyError)
        assert message in str(raised.value)
    assert result._ipython_key_completions_() == MODES


def test_models_are_those_that_were_trained_just_now() -> None:
    first, second = short(), short()
    models = [run.model for run in first]
    assert [type(model) for model in models] == [torch.nn.Linear, torch.nn.Linear]
    assert [run.model for run in second] == [None, None]
    assert models[0] is not None
    assert models[1] is not None
    assert not torch.equal(models[0].weight, models[1].weight)  # type: ignore[arg-type]  # of a Linear


def test_a_stack_hands_out_the_models_of_the_plain_loop() -> None:
    one, other = (short(engine=engine, out=None, modes=[*MODES, "accumulate:2"]) for engine in ("loop", "ensemble"))
    assert len(one) == 3
    for run in one:
        model, stacked = run.model, other[run.mode, run.seed].model
        assert model is not None
        assert stacked is not None
        for name, each in model.state_dict().items():
            # sums of a batch may be added in another order
            torch.testing.assert_close(stacked.state_dict()[name], each, rtol=1e-5, atol=1e-6)


def test_rows_have_the_columns_of_the_export() -> None:
    from gradlab import store

    result = short()
    records = [(store.RunFolder(run.folder).read(), run.rows, run.evaluations) for run in result if run.folder]
    lines = list(store.csv_of(records))
    assert lines[0].strip().split(",") == list(result.rows[0])
    assert len(lines) - 1 == len(result.rows) == 12
    pandas = pytest.importorskip("pandas")
    frame = result.to_pandas()
    assert list(frame.columns) == lines[0].strip().split(",")
    assert frame.groupby("mode")["loss"].last()["no_zero_grad"] == result["no_zero_grad", 42].last_loss
    assert isinstance(frame, pandas.DataFrame)


def test_pandas_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(GradlabError, match="to_pandas needs pandas: pip install pandas"):
        short().to_pandas()


def test_a_terminal_prints_the_table_in_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    result = short(seeds=3)
    monkeypatch.setenv("COLUMNS", "40")
    assert max(map(len, repr(result).splitlines())) <= 40
    monkeypatch.setenv("COLUMNS", "120")
    assert repr(result).splitlines()[1].split()[:4] == ["mode", "first", "last", "best"]


def test_a_notebook_shows_picture_and_table() -> None:
    shown = short()._repr_html_()
    assert shown.startswith('<img src="data:image/png;base64,iVBOR')
    assert shown.count("<tr>") == 3
    assert 'alt="Loss curves of zero_grad, no_zero_grad"' in shown
    assert re.search(r'<span style="color: #\w{6}">(falls|rises|oscillates|flat|diverges)</span>', shown)


def test_html_of_failed_runs_says_why() -> None:
    result = short(failing, expect={"zero_grad": {"verdict": "falls"}})
    shown = result._repr_html_()
    assert "<img" not in shown
    assert "ZeroDivisionError: on purpose" in shown
    assert "expected zero_grad seed 42: verdict = falls, got None" in shown


def test_plot_is_a_figure_that_a_notebook_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails
    figure: Any = short().plot(x="step", title="mine", width=600)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert figure.axes[0].get_xlabel() == "step"


def test_a_traceback_keeps_its_spaces_in_html() -> None:
    shown = short(failing)._repr_html_()
    block = re.search(r'<pre style="white-space: pre-wrap">(.*?)</pre>', shown, re.DOTALL)
    assert block
    lines = re.sub(r"<[^>]*>", "", block[1]).splitlines()
    assert lines[:2] == ["zero_grad seed 42, no_zero_grad seed 42 failed:", "Traceback (your code):"]
    assert lines[2].startswith("  File ")
    assert lines[3] == "    raise ZeroDivisionError(&quot;on purpose&quot;)"


def test_plot_has_a_default_width_and_theory_only_if_asked() -> None:
    result = gradlab.run("straight_line_mse", modes="zero_grad", steps=4, quiet=True)
    one, wide, with_theory = (result.plot(**more) for more in ({}, {"width": 600}, {"theory": True}))
    assert [round(each.get_figwidth() * each.dpi) for each in (one, wide)] == [1200, 600]
    dashed = [[line.get_linestyle() for line in each.axes[0].lines].count("--") for each in (one, with_theory)]
    assert dashed[0] < dashed[1]


def test_geometry_is_in_the_rows_and_the_columns() -> None:
    result = short(log="geometry")
    assert list(result.rows[0])[-4:] == ["fresh_norm", "gradient_norm", "cosine", "update_norm"]
    assert result.rows[0]["update_norm"] > 0
    assert list(result.to_pandas().columns) == list(result.rows[0])
    assert result.plot("step", "cosine").axes[0].get_ylabel() == "cosine to fresh gradient"
    assert "cosine" not in short().rows[0]


def test_plot_of_an_unknown_quantity_names_those_logged() -> None:
    with pytest.raises(PlotError, match=r"did not log 'accuracy'. Logged: loss$"):
        short().plot(y="accuracy")


def test_check_returns_the_result_or_raises_what_failed() -> None:
    good = short(expect={"zero_grad": {"steps": 6}})
    assert good.check() is good
    assert good.ok
    with pytest.raises(CheckError, match=r"expected zero_grad seed 42: steps = 7, got 6"):
        short(expect={"zero_grad": {"steps": 7}}).check()
    failed = short(failing)
    assert not failed.ok
    with pytest.raises(CheckError) as raised:
        failed.check()
    assert str(raised.value).startswith("zero_grad seed 42, no_zero_grad seed 42 failed:\nTraceback (your code):")
