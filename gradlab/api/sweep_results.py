"""What `gradlab.sweep` returns: the runs of a grid, as summary, picture and rows."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradlab.annotations import checked
from gradlab.api import showing
from gradlab.api.run_results import data_frame
from gradlab.api.showing import LEAST_WIDTH
from gradlab.errors import CheckError, PlotError
from gradlab.sweeps import numbering_of

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.figure import Figure

    from gradlab.store import Results, SweepRecord
    from gradlab.sweeps import SweepResult


@dataclass(frozen=True, repr=False)
class SweepRuns:
    """The runs of a sweep. A notebook shows the map and the summary; a terminal prints the summary.

    Attributes:
        folder: the folder of the sweep; None with out=None.
    """

    folder: Path | None
    _outcome: SweepResult
    _results: Results

    @property
    def experiment(self) -> str:
        """The name of the experiment."""
        return self._record.experiment

    @property
    def title(self) -> str:
        """The title of the experiment."""
        return self._record.title

    @property
    def ended(self) -> dict[str, int]:
        """The number of runs by verdict, and of failed ones."""
        return self._outcome.ended

    @property
    def errors(self) -> dict[str, int]:
        """The number of failed runs by error."""
        return self._outcome.errors

    @property
    def cached(self) -> int:
        """The number of reused runs."""
        return self._outcome.cached

    @property
    def by_loop(self) -> dict[str, int]:
        """The number of runs that were trained sequentially instead of stacked, by reason."""
        return self._outcome.by_loop

    @property
    def lost(self) -> int:
        """The number of runs that could not be trained because processes died."""
        return self._outcome.lost

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
        return not self._failures()

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

    @checked(PlotError, width=LEAST_WIDTH)
    def plot(
        self,
        *,
        color: str | None = None,
        title: str | None = None,
        size: tuple[float, float] | None = None,
        width: int | None = None,
    ) -> Figure:
        """Return the map, or the curves over one axis, as a matplotlib Figure, which a notebook shows.

        Args:
            color: the column that gives the colour, such as "best_loss" or "validation_loss". Default:
                training_set_loss.
            title: the title. Default: the experiment's.
            size: the width and height in inches. Default: 8 inches wide.
            width: the width in pixels. Default: 1200; with `size`, 300 per inch.

        Raises:
            PlotError: no axis has numbers, there are too many panels, no run is done, or no column has this name.
        """
        from gradlab import plotting

        panels = plotting.panels_of_sweep(
            self._record, self._results, plotting.color_of([self._results], color).column
        )
        return plotting.draw_phases(
            panels, title=(self.title or self.experiment) if title is None else title, size=size, width=width
        )

    def check(self) -> SweepRuns:
        """Return the result itself if all runs are done.

        Raises:
            CheckError: a run failed or could not be trained.
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

    @property
    def _record(self) -> SweepRecord:
        return self._outcome.record

    def _columns(self) -> list[str]:
        return [*self.axes, "mode", "seed", *self._results.columns]

    def _lines(self) -> list[Any]:
        from gradlab.terminal.fitted_table import literal_text
        from gradlab.terminal.sweep_summary import range_lines, sequential_messages, sweep_lines

        return [
            *sweep_lines(self._record, self.ended),
            *range_lines(self._results.ranges()),
            *(literal_text(each, "bold red") for each in self._failures()),
            *map(literal_text, sequential_messages(self._outcome)),
        ]

    def _failures(self) -> list[str]:
        from gradlab.terminal.sweep_summary import error_messages, lost_message

        return [*error_messages(self._outcome), *lost_message(self._outcome, "Make the same call")]
