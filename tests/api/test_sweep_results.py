"""The result of gradlab.sweep: rows, picture and summary."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gradlab.errors import CheckError
from tests.api.making import failing, swept


def test_a_sweep_has_one_row_per_run() -> None:
    result = swept()
    assert len(result) == len(result.rows) == 8
    assert list(result.rows[0])[:4] == ["lr", "keep", "mode", "seed"]
    assert result.axes == {"lr": [0.01, 0.1], "keep": [0.0, 1.0]}
    assert (result.seeds, result.modes, result.ok) == ([0, 1], [], True)
    assert result.check() is result
    assert result.plot(title="map").axes
    assert result._repr_html_().startswith("<img ")
    assert repr(result).splitlines()[:2] == ["lr 0.01, 0.1 × keep 0, 1", "2 seeds: 8 runs"]
    assert len(pytest.importorskip("pandas").unique(result.to_pandas()["lr"])) == 2


def test_a_sweep_reports_what_failed() -> None:
    result = swept(failing, out=None)
    assert (result.folder, result.ok) == (None, False)
    with pytest.raises(CheckError, match="8 runs failed:\n"):
        result.check()
    assert "8 runs failed:" in result._repr_html_()


def test_a_sweep_says_what_was_lost_and_what_was_not_stacked() -> None:
    result = swept(out=None)
    outcome = result._outcome._replace(lost=2, lost_reason="killed", by_loop={"no batch rule": 3})
    shown = replace(result, _outcome=outcome)
    assert (result.ok, shown.ok, shown.lost, shown.by_loop) == (True, False, 2, {"no batch rule": 3})
    with pytest.raises(CheckError, match=r"^2 runs not trained: killed. Make the same call to retry.$"):
        shown.check()
    assert repr(shown).splitlines()[-1] == "3 runs trained sequentially with the engine loop: no batch rule"


def test_each_verdict_has_its_own_colour_in_html() -> None:
    result = swept(out=None)
    shown = replace(result, _outcome=result._outcome._replace(ended={"falls": 5, "diverges": 3}))
    colours = re.findall(r'<span style="color: (#\w+)">(\w+ \d)</span>', shown._repr_html_())
    assert [text for _, text in colours] == ["falls 5", "diverges 3"]
    assert colours[0][0] != colours[1][0]
