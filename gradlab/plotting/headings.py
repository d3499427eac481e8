"""The title of a figure of runs: their experiment's, as long as it holds for what is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradlab.plotting.file_names import group_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradlab.store import RunRecord

MOST_CHARACTERS = 76  # of titles side by side


def heading_of(records: Sequence[RunRecord]) -> str:
    """Return the titles of the experiments, or their names if titles begin alike, are too long or do not hold."""
    by_name: dict[str, list[RunRecord]] = {}
    for record in records:
        by_name.setdefault(record.experiment, []).append(record)
    titles = list(dict.fromkeys(_title_of(name, runs) for name, runs in by_name.items()))
    together = ", ".join(titles)
    begins = {tuple(each.split()[:2]) for each in titles}
    if len(titles) > 1 and (len(together) > MOST_CHARACTERS or len(begins) < len(titles)):
        return ", ".join(by_name)
    return together


def _title_of(name: str, records: Sequence[RunRecord]) -> str:
    """Return the title of an experiment's runs, or its name.

    A title holds for the experiment as its file states it. Runs with other settings have no title. A title may speak
    of any mode, so all modes of the command must be drawn.
    """
    titled = [record for record in records if record.title]
    titles = {record.title for record in titled}
    drawn = {record.mode for record in records}
    holds = len(titles) == 1 and all(drawn.issuperset(record.modes) for record in titled)
    if len(titled) < len(records):
        holds = holds and len({tuple(sorted(group_settings(record).items())) for record in records}) == 1
    return titles.pop() if holds else name
