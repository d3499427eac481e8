"""The reason beside a verdict is true of the setting, and its numbers look different where they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.pages.test_simulation import FULL, Setting
from tests.pages.tools import answers_in_node

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (Setting(lr=0.27, keep=0), "why_beyond"),
        (Setting(keep=1, batch=FULL), "why_forever"),
        (Setting(keep=0.5, batch=FULL), "why_settles"),
        (Setting(lr=0.1, curvature=20, keep=0, batch=FULL), "why_atEdge"),  # 0.1 · 20 is 2
        (Setting(lr=0.5, keep=1, batch=FULL), "why_atEdgeKept"),
        (Setting(keep=1, batch=4), "why_noiseGrows"),
        (Setting(lr=0.25, keep=0, batch=2), "why_noiseAtEdge"),
        (Setting(lr=0.22, keep=0, batch=1), "why_noiseLarge"),
        (Setting(keep=0, batch=2, noise=0), "why_sameMinimum"),
        (Setting(keep=0, batch=2), "why_noiseFloor"),
        # Each update uses all samples equally often.
        (Setting(keep=1, batch=4, every=4), "why_forever"),
        (Setting(keep=0.5, batch=8, every=6), "why_settles"),
        (Setting(lr=0.25, keep=0, batch=2, every=8), "why_atEdge"),
        (Setting(keep=1, batch=4, every=3), "why_noiseGrows"),
    ],
)
def test_a_reason_is_true_of_its_setting(setting: Setting, reason: str, folder: Path) -> None:
    assert answers_in_node([("reason", setting._asdict())], folder) == [reason]


def test_windows_of_all_samples_train_like_full_batches(folder: Path) -> None:
    for batch, every in ((4, 4), (8, 6), (2, 8)):
        windows = Setting(keep=1, batch=batch, every=every, steps=10 * every)
        full = windows._replace(batch=FULL)
        paths = answers_in_node([("path", each._asdict()) for each in (windows, full)], folder)
        assert paths[0]["w1"][::every] == pytest.approx(paths[1]["w1"][::every], rel=1e-9)


def test_numbers_have_the_digits_that_tell_them_apart(folder: Path) -> None:
    asked = [{"a": 2.16, "edge": 2}, {"a": 1.9996, "edge": 2}, {"a": 3.8001, "edge": 3.8}, {"a": 2, "edge": 2}]
    assert answers_in_node([("shortApart", each) for each in asked], folder) == [
        {"a": "2.16", "edge": "2"},
        {"a": "1.9996", "edge": "2"},
        {"a": "3.8001", "edge": "3.8"},
        {"a": "2", "edge": "2"},
    ]
