"""What tests of the audit share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gradlab import audit
from gradlab.audit import active

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def _no_longer_warning() -> Iterator[None]:
    """Let the watch of `gradlab.audit.warn()` end with the test."""
    yield
    for recorder in audit._warning:
        active.end(recorder)  # type: ignore[arg-type]  # it is one
    audit._warning.clear()
