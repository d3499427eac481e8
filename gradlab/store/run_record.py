"""The record of a run, run.json: what it is and how it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gradlab.errors import shortened
from gradlab.rows import HUGE

FORMAT = 1
_LONGEST, _MOST = 1000, 10**15  # characters of a name; rows or seconds of a run


@dataclass(frozen=True)
class RunRecord:
    """What a run is: the content of run.json."""

    experiment: str
    mode: str
    seed: int
    identity: str
    settings: dict[str, Any]  # all that decides the rows, in canonical form
    status: str  # running, done, interrupted, failed
    title: str = ""
    weights: str = ""  # SHA-256 of what it started from
    first_batch: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    started: str = ""  # UTC, ISO 8601
    seconds: float | None = None  # spent in the training loop
    rows: int | None = None  # once it is done
    rows_sha256: str = ""  # of metrics.jsonl, once it is done
    quadratic: dict[str, Any] | None = None  # what theory needs of its loss; {} if that is no quadratic, None: unknown
    error: str = ""  # once it has failed
    writer: dict[str, Any] = field(default_factory=dict)  # while it is running: the process, {"pid", "host"}
    modes: list[str] = field(default_factory=list)  # of the command that trained it, in its order
    match_lr: bool | None = None  # of that command; None: not recorded, as by earlier versions
    format: int = FORMAT


def checked(record: RunRecord) -> RunRecord:
    """Check the types of what others rely on: the file may have been edited by hand."""
    kinds: dict[str, Any] = {"seed": int, "settings": dict, "versions": dict, "writer": dict}
    kinds |= {"seconds": float | int | None, "rows": int | None, "quadratic": dict | None}
    kinds |= {"modes": list, "match_lr": bool | None}
    for name in ("experiment", "mode", "status", "title", "error", "started", "rows_sha256"):
        kinds[name] = str
    for name, kind in kinds.items():
        if not isinstance(getattr(record, name), kind):
            raise TypeError(f"{name} is {shortened(repr(getattr(record, name)))}")
    for name in ("experiment", "mode", "status", "started"):  # shown, and exported as they are
        if not getattr(record, name).isprintable() or len(getattr(record, name)) > _LONGEST:
            raise ValueError(f"{name} is {shortened(repr(getattr(record, name)))}")
    if not all(isinstance(mode, str) for mode in record.modes):
        raise TypeError(f"modes is {shortened(repr(record.modes))}")
    if not 0 <= record.seed < 2**32 or not 0 <= (record.rows or 0) <= _MOST or not 0 <= (record.seconds or 0) < _MOST:
        raise ValueError("a seed, rows or seconds out of range")
    if record.quadratic and not _is_quadratic(record.quadratic):
        raise TypeError(f"quadratic is {shortened(repr(record.quadratic))}")
    return record


def _is_quadratic(content: dict[str, Any]) -> bool:
    """Say whether these are curvatures above 0, as many amplitudes and a floor, none beyond what theory can square."""
    curvatures, amplitudes = content.get("curvatures"), content.get("amplitudes")
    if not isinstance(curvatures, list) or not isinstance(amplitudes, list) or len(curvatures) != len(amplitudes):
        return False
    numbers = [*curvatures, *amplitudes, content.get("floor")]
    return (
        all(isinstance(each, float | int) and abs(each) < HUGE for each in numbers) and min(curvatures, default=0) > 0
    )
