"""The name of a default picture: the quantity, and what distinguishes the drawn runs from others in the folder."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gradlab.plotting.differences import distinguishing_settings, flattened, setting_names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradlab.store import RunRecord

LONGEST = 100  # characters; a longer name ends in a hash
_WITHIN = {"mode", "mode_source", "seed", "log"}  # settings that may differ between the curves of one picture


def picture_name(drawn: Iterable[RunRecord], others: Iterable[RunRecord], quantity: str) -> str:
    """Return a name for the picture of `drawn`, such as loss, loss-lr-0.1 or loss-by-lr.

    Args:
        drawn: the records of the drawn runs.
        others: those of other runs in the same folder.
        quantity: the drawn quantity.
    """
    shown = {tuple(sorted(group_settings(record).items())) for record in drawn}
    rest = {tuple(sorted(group_settings(record).items())) for record in others} - shown
    groups = [dict(each) for each in sorted(shown)]
    every = [*groups, *(dict(each) for each in sorted(rest))]
    names = setting_names({key for each in every for key in each})
    if len(groups) > 1:
        return _short("-".join([quantity, "by", *(names[key] for key in distinguishing_settings(groups))]))
    values = [f"{names[key]}-{groups[0].get(key, 'none')}" for key in (distinguishing_settings(every) if rest else [])]
    return _short("-".join([quantity, *values]))


def group_settings(record: RunRecord) -> dict[str, str]:
    """Return the settings that a run shares with the other curves of its picture."""
    apart = _WITHIN | ({"optimizer.lr"} if record.match_lr else set())
    settings = {key: value for key, value in flattened(record.settings).items() if key not in apart}
    return {**settings, "experiment": record.experiment}


def _short(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
