"""What is recorded of a run in run.json, and of the last request for finished runs in experiment.json."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StrictBool, TypeAdapter

from gradlab.rows import HUGE

FORMAT = 1


def _check_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it is shown and exported as it is")
    return text


def _check_quadratic(content: dict[str, Any]) -> dict[str, Any]:
    if content:
        curvatures = _CURVATURES.validate_python(content.get("curvatures"))
        amplitudes = _NUMBERS.validate_python(content.get("amplitudes"))
        _NUMBERS.validate_python([content.get("floor")])
        if len(curvatures) != len(amplitudes):
            raise ValueError("every curvature has an amplitude")
    return content


Shown = Annotated[str, Field(max_length=1000), AfterValidator(_check_printable)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Count = Annotated[int, Field(strict=True, ge=0, le=10**15)]
Seconds = Annotated[float, Field(strict=True, ge=0, lt=10**15)]
Number = Annotated[float, Field(strict=True, gt=-HUGE, lt=HUGE)]  # whose square does not overflow
_NUMBERS = TypeAdapter(list[Number])
_CURVATURES = TypeAdapter(Annotated[list[Annotated[Number, Field(gt=0)]], Field(min_length=1)])


@dataclass(frozen=True)
class RunRecord:
    """What a run is: the content of run.json."""

    experiment: Shown
    mode: Shown
    seed: Seed
    identity: str
    settings: dict[str, Any]  # all that decides the rows, in canonical form
    status: Shown  # running, done, interrupted, failed
    title: str = ""
    weights: str = ""  # SHA-256 of what it started from
    first_batch: str = ""
    versions: dict[str, Any] = field(default_factory=dict)
    started: Shown = ""  # UTC, ISO 8601
    seconds: Seconds | None = None  # spent in the training loop
    rows: Count | None = None  # once it is done
    rows_sha256: str = ""  # of metrics.jsonl, once it is done
    # What theory needs of its loss; {} if that is no quadratic, None: unknown
    quadratic: Annotated[dict[str, Any], AfterValidator(_check_quadratic)] | None = None
    error: str = ""  # once it has failed
    writer: dict[str, Any] = field(default_factory=dict)  # while it is running: the process, {"pid", "host"}
    modes: list[str] = field(default_factory=list)  # of the command that trained it, in its order
    match_lr: StrictBool | None = None  # of that command; None, as recorded by earlier versions, means false
    format: int = FORMAT


@dataclass(frozen=True)
class LastRequest:
    """A command that found all its runs done: the content of experiment.json.

    It counts as a start of these runs and hides none: without it, the group of the last start is shown.
    """

    runs: list[str]  # the names of their folders; of thousands the first
    at: str  # UTC, ISO 8601
    modes: list[str]  # of the command, in its order
    match_lr: StrictBool
    format: int = FORMAT
