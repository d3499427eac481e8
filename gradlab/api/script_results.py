"""What `gradlab.compare` returns: the runs of a script, with what was found about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradlab.api.run_results import ExperimentRuns

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, repr=False)
class ScriptRuns(ExperimentRuns):
    """The runs of a script: as it is written, then under each mode.

    Attributes:
        script: the script.
        notes: what a reader must know, such as that the script seeds itself.
        faults: why the runs must not be compared.
    """

    script: str = ""
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def _tables(self, width: int) -> list[Table]:
        from gradlab.terminal.comparison_lines import last_lines

        printed = last_lines(self._results)
        return [*super()._tables(width), *([printed] if printed else [])]

    def _lines(self) -> list[Any]:
        """Return what was found about the script, and the failed runs, as lines."""
        from gradlab.terminal.comparison_lines import as_written_line, imposed_lines
        from gradlab.terminal.fitted_table import literal_text

        found = filter(None, [as_written_line(self._results), *imposed_lines(self._results), *self.notes])
        return [
            *map(literal_text, found),
            *(literal_text(each, "bold red") for each in self.faults),
            *super()._lines(),
        ]

    def _failures(self) -> list[str]:
        unimposed = dict.fromkeys(run.mode for run in self.runs if run.compared.get("imposed") == "no")
        return [*super()._failures(), *(f"{mode} was not imposed" for mode in unimposed), *self.faults]
