"""The records in run.json, of a run, and in experiment.json, of the last request for finished runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, TypeAdapter

from gradlab.rows import HUGE
from gradlab.store.row_log import loss_in

FORMAT = 1


def _check_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it has characters that cannot be printed")
    return text


def _check_quadratic(content: dict[str, Any]) -> dict[str, Any]:
    if content:
        curvatures = _CURVATURES.validate_python(content.get("curvatures"))
        amplitudes = _NUMBERS.validate_python(content.get("amplitudes"))
        _NUMBERS.validate_python([content.get("floor")])
        if len(curvatures) != len(amplitudes):
            raise ValueError("curvatures and amplitudes differ in number")
    return content


Shown = Annotated[str, Field(max_length=1000), AfterValidator(_check_printable)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Count = Annotated[int, Field(strict=True, ge=0, le=10**15)]
Seconds = Annotated[float, Field(strict=True, ge=0, lt=10**15)]
Number = Annotated[float, Field(strict=True, gt=-HUGE, lt=HUGE)]  # its square does not overflow
Loss = Annotated[float, BeforeValidator(loss_in)]  # also not finite
_NUMBERS = TypeAdapter(list[Number])
_CURVATURES = TypeAdapter(Annotated[list[Annotated[Number, Field(gt=0)]], Field(min_length=1)])


@dataclass(frozen=True)
class RunRecord:
    """The record of a run: the content of run.json."""

    experiment: Shown
    mode: Shown
    seed: Seed
    identity: str
    settings: dict[str, Any]  # everything that decides the rows, in canonical form
    status: Shown  # running, done, interrupted, failed
    title: str = ""
    weights: str = ""  # SHA-256 of the initial weights
    first_batch: str = ""  # its SHA-256
    versions: dict[str, Any] = field(default_factory=dict)
    started: Shown = ""  # UTC, ISO 8601
    seconds: Seconds | None = None  # in the training loop
    rows: Count | None = None  # number of rows, once done
    rows_sha256: str = ""  # of metrics.jsonl, once done
    evaluations: Count | None = None  # number of evaluations, once done
    evaluations_sha256: str = ""  # of evaluations.jsonl, once done
    training_set_loss: Loss | None = None  # mean over the training batches at the end, in eval mode; None if unknown
    # The quadratic loss, for theory: {} if the loss is not quadratic, None if unknown
    quadratic: Annotated[dict[str, Any], AfterValidator(_check_quadratic)] | None = None
    error: str = ""  # once failed
    writer: dict[str, Any] = field(default_factory=dict)  # the process, {"pid", "host"}, while running
    modes: list[str] = field(default_factory=list)  # all modes of the command that trained it, in its order
    match_lr: StrictBool | None = None  # of that command; None, from earlier versions, means false
    # Of a user's script: whether the mode was imposed, what was measured, the last line it printed. Empty for a task.
    compared: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def logs_geometry(self) -> bool:
        """Whether the rows have the geometry of updates."""
        log = self.settings.get("log")
        return isinstance(log, list) and "geometry" in log


@dataclass(frozen=True)
class LastRequest:
    """A command that found all its runs done: the content of experiment.json.

    It counts as a start of these runs, so that their group is shown.
    """

    runs: list[str]  # the names of their folders, at most 1000
    at: str  # UTC, ISO 8601
    modes: list[str]  # the command's modes, in its order
    match_lr: StrictBool
    format: int = FORMAT
