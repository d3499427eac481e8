"""The evaluations of a run in evaluations.jsonl: one line per evaluation, written at once."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from gradlab.errors import shortened
from gradlab.rows import Evaluation
from gradlab.store.files import strict_json, unwritable
from gradlab.store.line_log import LineLog
from gradlab.store.row_log import loss_in, parsed_lines

if TYPE_CHECKING:
    from pathlib import Path

_COUNTS = ("step", "update", "epoch")


class Evaluations(NamedTuple):
    """The content of a file of evaluations.

    Attributes:
        evaluations: all valid ones, in the order of the file.
        damaged: one message per invalid line, with its number: `…/evaluations.jsonl:2: not an evaluation: …`.
        sha256: the SHA-256 of all complete lines.
    """

    evaluations: list[Evaluation]
    damaged: list[str]
    sha256: str


class EvaluationLog(LineLog):
    """Appends evaluations to the file of a run, in complete lines.

    Attributes:
        count: the number of evaluations in the file.
    """

    def __init__(self, file: Path, before: int = 0) -> None:
        """Lock the file for this process and truncate it to the evaluations of steps below `before`.

        Raises:
            StoreError: the file cannot be written. It stays unchanged.
            BlockingIOError: another process writes the file.
        """
        self._hash, self.count = hashlib.sha256(), 0
        super().__init__(file, partial(_first_evaluations, before) if before else None)

    @property
    def sha256(self) -> str:
        """The SHA-256 of all written lines."""
        return self._hash.hexdigest()

    def append(self, evaluation: Evaluation) -> None:
        """Write one evaluation.

        Raises:
            StoreError: it cannot be written, for example because the disk is full.
        """
        try:
            self._write(evaluation_line(evaluation).encode())
        except OSError as error:
            raise unwritable(self.file, error) from None

    def _wrote(self, lines: bytes) -> None:
        super()._wrote(lines)
        self._hash.update(lines)
        self.count += lines.count(b"\n")


def evaluations_in(content: bytes, file: Path) -> Evaluations:
    """Return the evaluations and the damaged lines of a file's content; skip a partial last line."""
    found, damaged, digest = list[Evaluation](), [], hashlib.sha256()
    for nth, (line, evaluation) in enumerate(parsed_lines(content, _evaluation), 1):
        digest.update(line)
        if evaluation is None:
            text = line[:200].decode(errors="replace").rstrip("\n")
            damaged.append(f"{file}:{nth}: not an evaluation: {shortened(text)}")
        else:
            found.append(evaluation)
    return Evaluations(found, damaged, digest.hexdigest())


def evaluation_line(evaluation: Evaluation) -> str:
    """Return the evaluation as a line of strict JSON."""
    position = {name: getattr(evaluation, name) for name in _COUNTS}
    return strict_json(position | evaluation.values, compact=True) + "\n"


def _first_evaluations(before: int, content: bytes) -> bytes:
    """Return the leading lines that are intact, in order, and of steps below `before`."""
    lines, last = [], 0
    for line, evaluation in parsed_lines(content, _evaluation):
        if evaluation is None or not last < evaluation.step < before:
            break
        lines.append(line)
        last = evaluation.step
    return b"".join(lines)


def _evaluation(line: dict[str, Any]) -> Evaluation:
    """Return the evaluation of a parsed line; raise ValueError, TypeError, KeyError or OverflowError if invalid."""
    step, update, epoch = counts = [line.pop(name) for name in _COUNTS]
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("step, update and epoch must be counts")
    if not line or not all(name.isidentifier() for name in line):
        raise ValueError("an evaluation has values with names")
    return Evaluation(step, update, epoch, {name: loss_in(value) for name, value in line.items()})
