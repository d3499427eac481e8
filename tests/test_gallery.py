"""Figures of odd settings: in each of them texts neither overlap nor leave the figure."""

from __future__ import annotations

from typing import Any

import pytest

from gradlab.plotting import draw, rendered
from tests.gallery import SETTINGS
from tests.text_boxes import clipped, overlapping

PAGES: dict[str, dict[str, Any]] = {"400 px": {"width": 400}, "a column": {"size": (3.5, 2.5)}}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_texts_neither_overlap_nor_are_cut(setting: str, page: str) -> None:
    figure = draw(SETTINGS[setting](), **PAGES[page])
    assert overlapping(figure) == []
    assert clipped(figure) == []


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_texts_fit_figures_of_usual_width_too(setting: str) -> None:
    figure = draw(SETTINGS[setting]())
    assert overlapping(figure) == []
    assert clipped(figure) == []
    assert rendered(figure, ".pdf").startswith(b"%PDF")
