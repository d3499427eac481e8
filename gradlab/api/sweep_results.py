"""What `gradlab.sweep` returns: the runs of a grid, as summary, picture and rows."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradlab.api import showing
from gradlab.api.run_results import data_frame
from gradlab.errors import CheckError, PlotError
from gradlab.sweeps import numbering_of
from gradlab.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.figure import Figure

    from gradlab.store import Results, SweepRecord


@dataclass(frozen=True, repr=False)
class SweepRuns:
    """The runs of a sweep. A notebook shows the map and the summary; a terminal prints the summary.

    Attributes:
        experiment: the name of the experiment.
        title: its title.
        ended: the number of runs by verdict, and of failed ones.
        errors: the number of failed runs by error.
        cached: the number of reused runs.
        missing: the number of runs that could not be trained.
        folder: the folder of the sweep; None with out=None.
    """

    experiment: str
    title: str
    ended: dict[str, int]
    errors: dict[str, int]
    cached: int
    missing: int
    folder: Path | None
    _record: SweepRecord
    _results: Results

    @property
    def axes(self) -> dict[str, list[Any]]:
        """The varied keys with their values."""
        return self._record.values

    @property
    def modes(self) -> list[str]:
        """The modes; empty if keep or every varies."""
        return self._record.modes

    @property
    def seeds(self) -> list[int]:
        """The seeds."""
        return self._record.seeds

    @property
    def ok(self) -> bool:
        """Whether all runs are done."""
        return not self.errors and not self.missing

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict per run, with the columns of `gradlab export`."""
        run_at = numbering_of(self._record)
        rows = []
        for number, (block, nth) in self._results.by_run().items():
            values, mode, seed = run_at(number)
            found = (block.values(column)[nth] for column in self._results.columns)
            rows.append(dict(zip(self._columns(), (*values, mode, seed, *found), strict=True)))
        return rows

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame, with the columns of `gradlab export`.

        Raises:
            GradlabError: pandas is not installed.
        """
        return data_frame(self.rows, self._columns())

    def plot(self, *, color: str | None = None, title: str | None = None, width: int = 1200) -> Figure:
        """Return the map, or the curves over one axis, as a matplotlib Figure, which a notebook shows.

        Args:
            color: the column that gives the colour, such as "best_loss" or "validation_loss". Default:
                training_set_loss.
            title: the title. Default: the experiment's.
            width: the width in pixels.

        Raises:
            PlotError: no axis has numbers, there are too many panels, no run is done, or no column has this name.
        """
        from gradlab import plotting

        panels = plotting.panels_of_sweep(
            self._record, self._results, plotting.color_of([self._results], color).column
        )
        return plotting.draw_phases(
            panels, title=(self.title or self.experiment) if title is None else title, width=width
        )

    def check(self) -> SweepRuns:
        """Return the result itself if all runs are done.

        Raises:
            CheckError: a run failed or is missing.
        """
        if failures := self._failures():
            raise CheckError("\n".join(failures))
        return self

    def __len__(self) -> int:
        return self._record.runs

    def __repr__(self) -> str:
        return showing.text_of(*self._lines(), width=showing.terminal_width())

    def _repr_html_(self) -> str:
        """Return the picture and the summary, for a notebook."""
        picture = ""
        with suppress(PlotError):
            picture = showing.picture_html(self.plot(), f"Results over {' and '.join(self.axes)}")
        return picture + showing.lines_html(self._lines())

    def _columns(self) -> list[str]:
        return [*self.axes, "mode", "seed", *self._results.columns]

    def _lines(self) -> list[Any]:
        from gradlab.terminal.fitted_table import literal_text
        from gradlab.terminal.sweep_summary import range_lines, sweep_lines

        failures = (literal_text(each, "bold red") for each in self._failures())
        return [*sweep_lines(self._record, self.ended), *range_lines(self._results.ranges()), *failures]

    def _failures(self) -> list[str]:
        failed = [f"{counted(count, 'run')} failed:\n{error}" for error, count in self.errors.items()]
        return failed + ([f"{counted(self.missing, 'run')} not trained"] if self.missing else [])
