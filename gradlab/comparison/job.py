"""What a child process is asked to run, and what it reports: two JSON files between `gradlab compare` and its runs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from gradlab.store.files import replace_json

if TYPE_CHECKING:
    from pathlib import Path


class _Message:
    """A frozen dataclass that is written as a JSON file."""

    def write(self, file: Path) -> None:
        """Replace the file atomically."""
        replace_json(file, asdict(self))  # type: ignore[call-overload]  # every subclass is a dataclass

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the file that `write` wrote."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class ScriptJob(_Message):
    """One run of a script.

    Attributes:
        script: the script's file as the script sees it, or the name of a module.
        mode: the word of the imposed mode; None to run the script as it is written.
        mode_folder: the folder that FILE.py:NAME of the mode is searched in.
        rows_file: the log of the run; None to keep no rows.
        outcome_file: where the child reports.
        most_passes: end the script before the next backward pass.
        most_updates: end the script after this number of steps.
        original: the user's folder, which was copied for the run; packages installed from it load from there.
    """

    script: str
    args: list[str]
    is_module: bool
    mode: str | None
    mode_folder: str
    seed: int
    threads: int
    rows_file: str | None
    outcome_file: str
    only: int | None = None
    most_passes: int | None = None
    most_updates: int | None = None
    original: str | None = None


@dataclass(frozen=True)
class ScriptOutcome(_Message):
    """What a child reports of its run, at least once, when the script has ended.

    Attributes:
        status: the exit status of the script.
        refused: why the script cannot be compared; "" if it can.
        ended: whether a limit of the job ended the script.
        passes: the number of backward passes.
        updates: the number of steps of the optimizer that took most.
        weights: SHA-256 of the parameters of all optimizers before the first backward pass.
        seconds: from the start of the script to its end.
        rows: the number of logged rows.
        rows_sha256: of the log.
        good, faults: the number of steps whose gradient was what the mode says, and of the others, by reason.
        doubts: reasons why the mode may be imposed only in part.
        remarks: what a reader must know of the mode even if it was imposed.
        optimizers: what was measured of each optimizer in a run without a mode, as `measuring.measured` returns it.
        sources: SHA-256 of the files that the script imported from its folder, by relative path.
        hints: what the script uses that may give other losses in a second run.
    """

    status: int
    refused: str = ""
    ended: bool = False
    passes: int = 0
    updates: int = 0
    weights: str = ""
    seconds: float = 0.0
    rows: int = 0
    rows_sha256: str = ""
    good: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    optimizers: list[dict[str, Any]] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    hints: list[str] = field(default_factory=list)
