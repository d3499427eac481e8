"""Where the report of `gradlab audit` goes: stderr, stdout or a file, in the chosen format."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from gradlab.errors import AT_FAULT, INTERRUPTED, AuditError, GradlabError, printable, shortened, unknown

if TYPE_CHECKING:
    from gradlab.audit import Report
    from gradlab.audit.script.streams import Streams

FULL, JSON = "full", "json"


class AuditOutput:
    """The format and the file of a report, from the command line.

    Raises:
        AuditError: the format is unknown, options contradict each other, or the file cannot be written.
    """

    def __init__(self, name: str | None, file: Path | None, *, json: bool) -> None:
        from gradlab.audit.formats import FORMATS

        if name is not None and name not in FORMATS:
            raise AuditError(unknown("format", name, FORMATS))
        if json and name not in (None, JSON):
            raise AuditError(f"--json and --output-format {name} contradict each other: use one of them")
        self._name = JSON if json else name or FULL
        self._file = file and _checked(file)
        self._lost = False  # whether the file could not be written, and the script's own status is 0

    @property
    def takes_stdout(self) -> bool:
        """Whether the report goes to stdout, and so the script's output to stderr."""
        return self._name != FULL and self._file is None

    def write(self, report: Report, streams: Streams, script: str, status: int) -> None:
        """Write the report of a script that ended with this status.

        If it cannot be written, it goes to stderr.

        Raises:
            OSError: stdout cannot be written.
        """
        if self.takes_stdout:
            try:
                streams.write_result(self._text(report, script, status))
            except BrokenPipeError:
                raise
            except OSError:
                _write_full(report, streams, status)
                raise
            if self._name == JSON:
                for line in _for_people(report, status):
                    streams.write_message(printable(line))
            return
        _write_full(report, streams, status)
        if self._file is not None:
            self._write_file(self._text(report, script, status), streams, own_status=status)

    def _text(self, report: Report, script: str, status: int) -> str:
        import gradlab
        from gradlab.audit.formats import FORMATS
        from gradlab.store import strict_json

        written = FORMATS[self._name](report.result(script, status, gradlab.__version__))
        return written if isinstance(written, str) else strict_json(written, indent=2, ascii_only=True) + "\n"

    def _write_file(self, text: str, streams: Streams, own_status: int) -> None:
        from gradlab.store import write_bytes

        assert self._file
        try:
            write_bytes(self._file, text.encode(errors="replace"))
        except GradlabError as error:
            self._lost = own_status == 0
            streams.write_message(printable(error))
            if self._name != FULL:  # which is on stderr already
                streams.write_message(text.rstrip("\n"))

    def exit_status(self, status: int) -> int:
        """Return the exit status of the command: 2 if the file could not be written and the script did not fail."""
        return AT_FAULT if self._lost and status != INTERRUPTED else status


def _checked(file: Path) -> Path:
    """Return the absolute path of a file that can be written.

    Raises:
        AuditError: the folder is missing or read-only, or this is a folder or another special file.
    """
    named = f"-o {shortened(file, 300)}"
    if file.is_dir():
        raise AuditError(f"{named} is a folder; give a file in it")
    if not file.parent.is_dir():
        raise AuditError(f"{named}: no folder '{shortened(file.parent, 300)}'; create it first")
    if not os.access(file.parent, os.W_OK):
        raise AuditError(f"{named}: the folder '{shortened(file.parent, 300)}' is read-only")
    if file.exists() and not stat.S_ISREG(file.stat().st_mode):
        raise AuditError(f"{named} is not a regular file; without -o, the report goes to stdout")
    return Path.cwd() / file  # the script may change the folder


def _for_people(report: Report, status: int) -> list[str]:
    """Return what the document says about the audit itself: programs read the document, people read stderr."""
    from gradlab.audit.formats.result import remarks_of

    without = None if status else report.nothing_audited
    return [*([f"gradlab audit: nothing audited: {without}"] if without else []), *remarks_of(report.history)]


def _write_full(report: Report, streams: Streams, status: int) -> None:
    for line in report.lines(_width_of_stderr(), status):
        streams.write_message(printable(line))


def _width_of_stderr() -> int:
    from rich.console import Console

    return Console(stderr=True).width
