"""Each finding says how sure it is: at how many updates, windows or passes it was seen."""

from __future__ import annotations

import re

import pytest

from tests.audit.test_scripts import FAULTY, SCRIPTS, watched

COUNTED = re.compile(
    r"\b(at|in) (all |any of )?\d+ (of \d+ )?(updates|windows)|of each of \d+ epochs|seen (at )?\d+ (time|updates)"
    r"|all \d+ backward passes of this line"
)


@pytest.mark.xdist_group("audit scripts")
@pytest.mark.parametrize("name", FAULTY)
def test_the_message_of_a_finding_tells_how_often_it_was_seen(name: str) -> None:
    (found,) = watched(SCRIPTS[name]).findings
    assert COUNTED.search(found.message), found.message
