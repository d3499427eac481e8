"""What distinguishes runs or sweeps: the settings that differ between them, and their names in labels and titles."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradlab.store import SweepRecord

_SOURCES = {f"{each}_source" for each in ("task", "mode", "optimizer", "schedule", "script")}  # hashes
_PLAIN_VALUES = {"experiment", "mode", "task", "optimizer.name"}  # their values need no name


def flattened(settings: dict[str, Any], before: str = "") -> dict[str, str]:
    """Return the settings without nesting, such as `{"optimizer.lr": "0.01", …}`."""
    found: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            found |= flattened(value, f"{before}{key}.")
        else:
            found[before + key] = _plain(value) if isinstance(value, float) else str(value)
    return found


def distinguishing_settings(groups: Sequence[dict[str, str]]) -> list[str]:
    """Return the traits besides the mode that distinguish the groups; only the experiment if that suffices."""

    def distinct(traits: Iterable[str]) -> int:
        return len({tuple(group.get(trait) for trait in traits) for group in groups})

    known = sorted({trait for group in groups for trait in group} - {"mode"} - _SOURCES)
    differing = [trait for trait in known if distinct([trait]) > 1]
    return ["experiment"] if differing and distinct(["experiment"]) == distinct(differing) else differing


def setting_names(known: Iterable[str]) -> dict[str, str]:
    """Return the name of each trait in a label: the last part of its key, or the whole key if ambiguous."""
    ends = Counter(trait.rpartition(".")[2] for trait in known)
    names = {trait: end if ends[end := trait.rpartition(".")[2]] == 1 else trait for trait in known}
    return names | {"optimizer.name": "optimizer", "schedule.name": "schedule"}


def setting_text(key: str, value: object, name: str = "") -> str:
    """Return a setting as in the title of a panel: `batch_size=40`, but `SGD` and `zero_grad`."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if key in _PLAIN_VALUES else f"{name or key.rpartition('.')[2]}={text}"


def sweep_titles(records: Sequence[SweepRecord]) -> list[str]:
    """Return a title for each sweep: its own if they differ, else the settings that distinguish the sweeps."""
    titles = [record.title or record.experiment for record in records]
    if len(set(titles)) == len(titles):
        return titles
    traits = [_sweep_traits(record) for record in records]
    names = setting_names({key for each in traits for key in each})
    differing = distinguishing_settings(traits)
    differing += ["mode"] if len({each["mode"] for each in traits}) > 1 else []
    words = [[setting_text(key, each[key], names[key]) for key in differing if key in each] for each in traits]
    return [", ".join(found) for found in words] if differing else titles


def common_title(records: Sequence[SweepRecord]) -> str:
    """Return the title that all these sweeps share, or ""."""
    titles = {record.title or record.experiment for record in records}
    return titles.pop() if len(titles) == 1 else ""


def _sweep_traits(record: SweepRecord) -> dict[str, str]:
    seeds = {"seeds": str(len(record.seeds))}
    modes = {"experiment": record.experiment, "mode": ", ".join(record.modes)}
    settings = {key: value for key, value in record.settings.items() if key not in ("vary", "modes", "seeds")}
    return {**flattened(settings), **seeds, **modes}


def _plain(value: float) -> str:
    """Return the shortest text that keeps the value, so different learning rates stay different curves."""
    return short if float(short := f"{value:g}") == value else repr(value)
