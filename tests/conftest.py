"""What all tests share: each runs in an empty folder of its own, with one thread."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

settings.register_profile("gradlab", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("gradlab")


# Slow tests that reach code which no quick test reaches: TensorFlow, Dask, and workers of a sweep.
COVER_MORE = ("test_tensorflow", "test_cluster", "test_clusters", "test_sweeps")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the other slow tests out of coverage: measuring it takes what runs in Python half as long again."""
    for item in items:
        if item.get_closest_marker("slow") and item.path.stem not in COVER_MORE:
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture(autouse=True, scope="session")
def _frozen() -> None:
    """Import torch and leave what it brings out of garbage collections, which would go through it again and again."""
    import torch  # noqa: F401 - that it is there

    gc.freeze()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start every test in an empty folder, without what the caller's terminal says about itself."""
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Results of torch depend on the number of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
