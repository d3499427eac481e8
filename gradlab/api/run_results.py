"""What `gradlab.run` returns: the runs by mode and seed, as table, picture, rows and models."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast, overload

from gradlab.annotations import checked
from gradlab.api import showing
from gradlab.api.showing import LEAST_WIDTH
from gradlab.errors import CheckError, GradlabError, PlotError, UnknownRunError, shortened, unknown
from gradlab.modes import Mode, parse
from gradlab.rows import TRAINING_SET_LOSS
from gradlab.store import merged, run_columns
from gradlab.wording import words_of_python

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure
    from rich.table import Table
    from torch import nn

    from gradlab.analysis.curves import Verdict
    from gradlab.analysis.results import Checked, Result
    from gradlab.rows import Evaluation, Row
    from gradlab.store import RunRecord


@dataclass(frozen=True, repr=False)
class TrainedRun:
    """One run: one mode and one seed.

    Attributes:
        mode: the mode.
        seed: the seed.
        status: "done", or "failed" if the task raised.
        verdict: what the curve did: falls, rises, oscillates, diverges or flat; None if the run is not done.
        steps: the number of backward passes.
        updates: the number of optimizer steps.
        first_loss: the loss of the first step.
        last_loss: the loss of the last step.
        best_loss: the lowest finite loss.
        seconds: the duration of training.
        training_set_loss: the mean loss over the training batches at the end, in eval mode; None if unknown.
        cached: whether the run was finished before and was reused.
        folder: its folder; None with out=None.
        error: why it failed, else "".
        rows: what was logged, one `Row` per step.
        evaluations: one `Evaluation` for each time that validation loss and metrics were computed.
        model: the trained model. None if the run was reused, failed, or was trained in TensorFlow or by a script.
        compared: in results of `gradlab.compare`, how the mode was imposed, as in `gradlab compare --json`.
    """

    mode: str
    seed: int
    status: str
    verdict: Verdict | None
    steps: int
    updates: int
    first_loss: float | None
    last_loss: float | None
    best_loss: float | None
    seconds: float | None
    cached: bool
    folder: Path | None
    error: str
    rows: list[Row]
    model: nn.Module | None
    compared: dict[str, Any] = field(default_factory=dict)
    training_set_loss: float | None = None
    evaluations: list[Evaluation] = field(default_factory=list)

    @property
    def measured(self) -> dict[str, float]:
        """The values of the last evaluation and the training set loss, by name."""
        known = {} if self.training_set_loss is None else {TRAINING_SET_LOSS: self.training_set_loss}
        return known | (self.evaluations[-1].values if self.evaluations else {})

    @property
    def losses(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The loss of every step, shape (steps,)."""
        import numpy as np

        return np.array([row.loss for row in self.rows], dtype=np.float64)

    def __repr__(self) -> str:
        shown = {"status": self.status, "verdict": self.verdict, "steps": self.steps, "last_loss": self.last_loss}
        return f"<run {self.mode} seed {self.seed}: {', '.join(f'{key} {each}' for key, each in shown.items())}>"


@dataclass(frozen=True, repr=False)
class ExperimentRuns:
    """The runs of an experiment, by mode and seed.

    `result["no_zero_grad"]` has the runs of a mode, and `result["no_zero_grad", 1]` is one run. A notebook shows the
    picture and the table; a terminal prints the table.

    Attributes:
        experiment: the name of the experiment.
        title: its title.
        runs: the runs, by mode, then seed.
        expectations: the expectations of the experiment, each with its result.
        folder: the folder of the experiment's runs; None with out=None.
    """

    experiment: str
    title: str
    runs: tuple[TrainedRun, ...]
    expectations: tuple[Checked, ...]
    folder: Path | None
    _results: tuple[Result, ...] = field(default=(), compare=False)
    _records: tuple[RunRecord, ...] = field(default=(), compare=False)

    @property
    def modes(self) -> list[str]:
        """The modes, in their order."""
        return list(dict.fromkeys(run.mode for run in self.runs))

    @property
    def seeds(self) -> list[int]:
        """The seeds, in their order."""
        return list(dict.fromkeys(run.seed for run in self.runs))

    @property
    def ok(self) -> bool:
        """Whether all runs are done and all expectations hold."""
        return not self._failures()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict per step of every run, with the columns of `gradlab export`.

        Values of an evaluation stand in the dict of the step that follows it. The last evaluation has a dict of its
        own, in which loss and items are None.
        """
        names, geometry, evaluated = self._columns, self._has_geometry, self._evaluated
        return [
            dict(zip(names, (self.experiment, run.mode, run.seed, *line), strict=True))
            for run in self.runs
            for line in merged(run.rows, run.evaluations, evaluated, geometry=geometry)
        ]

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame, with the columns of `gradlab export`.

        Raises:
            GradlabError: pandas is not installed.
        """
        return data_frame(self.rows, self._columns)

    @property
    def _has_geometry(self) -> bool:
        return any(record.logs_geometry for record in self._records)

    @property
    def _evaluated(self) -> list[str]:
        values = (each.values for run in self.runs for each in run.evaluations)
        return list(dict.fromkeys(name for each in values for name in each))

    @property
    def _columns(self) -> list[str]:
        return [*run_columns(geometry=self._has_geometry), *self._evaluated]

    @checked(PlotError, width=LEAST_WIDTH)
    def plot(
        self,
        x: str | None = None,
        y: str = "loss",
        *,
        modes: str | Sequence[str] = (),
        yscale: str = "auto",
        ylim: tuple[float | None, float | None] = (None, None),
        smooth: int | None = None,
        title: str | None = None,
        size: tuple[float, float] | None = None,
        width: int | None = None,
        theory: bool = False,
    ) -> Figure:
        """Return the picture as a matplotlib Figure, which a notebook shows. `figure.savefig(FILE)` saves it.

        Args:
            x: step, update or epoch. Default: what suits the runs.
            y: the logged quantity, such as validation_loss.
            modes: the mode or modes to draw. Default: all.
            yscale: log, linear or auto.
            ylim: the bottom and the top of the y axis; None for what suits.
            smooth: draw running medians of this many points, and the curves themselves faintly; 1 draws every point.
            title: the title. Default: the experiment's, if it holds for what is drawn.
            size: the width and height in inches. Default: 8 inches wide.
            width: the width in pixels. Default: 1200; with `size`, 300 per inch.
            theory: draw closed forms as dashed lines over the curves that have one.

        Raises:
            PlotError: no run has rows or logged the quantity, or an argument does not fit them.
        """
        from gradlab import plotting
        from gradlab.analysis.quantities import LoggedRun, choose_quantity

        logged = [
            LoggedRun(record, run.rows, run.evaluations) for record, run in zip(self._records, self.runs, strict=True)
        ]
        chosen = plotting.choose_modes(self.modes, [modes] if isinstance(modes, str) else modes)
        quantity = choose_quantity(logged, y)
        drawn = [(run.record, run.values_of(quantity)) for run in logged if run.record.mode in chosen]
        return plotting.draw(
            drawn, axis=x, y=quantity, yscale=yscale, ylim=ylim, smooth=smooth, title=title, size=size, width=width,
            theory=theory,
        )  # fmt: skip

    def check(self) -> ExperimentRuns:
        """Return the result itself if all runs are done and all expectations hold.

        Raises:
            CheckError: a run failed, or an expectation does not hold.
        """
        if failures := self._failures():
            raise CheckError("\n".join(failures))
        return self

    @overload
    def __getitem__(self, key: str | Mode) -> ExperimentRuns: ...

    @overload
    def __getitem__(self, key: tuple[str | Mode, int]) -> TrainedRun: ...

    def __getitem__(self, key: str | Mode | tuple[str | Mode, int]) -> ExperimentRuns | TrainedRun:
        """Return the runs of a mode, or one run for `result[mode, seed]`.

        Raises:
            UnknownRunError: the result has no such mode or seed. It is a KeyError, too.
        """
        word, *rest = key if isinstance(key, tuple) and not isinstance(key, Mode) and len(key) == 2 else (key,)
        mode = self._mode(word)
        chosen = tuple(run for run in self.runs if run.mode == mode)
        if not rest:
            return ExperimentRuns(
                self.experiment,
                self.title,
                chosen,
                tuple(each for each in self.expectations if each.mode == mode),
                self.folder,
                tuple(each for each in self._results if each.mode == mode),
                tuple(each for each in self._records if each.mode == mode),
            )
        found = [run for run in chosen if [run.seed] == rest]
        if not found:
            seeds = ", ".join(str(run.seed) for run in chosen)
            raise UnknownRunError(f"mode '{mode}' has no seed {shortened(repr(rest[0]))}. Seeds: {seeds}")
        return found[0]

    def __contains__(self, key: object) -> bool:
        """Return whether the result has a mode, or a run: `"zero_grad" in result`, `("zero_grad", 1) in result`."""
        if isinstance(key, TrainedRun):
            return any(run is key for run in self.runs)
        try:
            self[cast("Any", key)]
        except UnknownRunError:
            return False
        return True

    def _mode(self, word: object) -> str:
        known = self.modes
        if not isinstance(word, str | Mode):
            raise UnknownRunError(f"write result[mode] or result[mode, seed], got {shortened(repr(word))}")
        if word in known:
            return str(word)
        with suppress(GradlabError):
            name = parse(word).name if isinstance(word, str) else word.name
            if name in known:
                return name
        raise UnknownRunError(unknown("mode of this result", str(word), known))

    def __iter__(self) -> Iterator[TrainedRun]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __repr__(self) -> str:
        return self._text(showing.terminal_width())

    def _repr_html_(self) -> str:
        """Return the picture and the table, for a notebook."""
        picture = ""
        with suppress(PlotError):  # no run has rows
            picture = showing.picture_html(self.plot(), f"Loss curves of {', '.join(self.modes)}")
        tables = "".join(map(showing.table_html, self._tables(showing.WIDE)))
        return picture + tables + showing.lines_html(self._lines())

    def _ipython_key_completions_(self) -> list[str]:
        """Return the modes, which notebooks complete inside the brackets."""
        return self.modes

    def _text(self, width: int) -> str:
        return showing.text_of(*self._tables(width), *self._lines(), width=width)

    def _tables(self, width: int) -> list[Table]:
        from gradlab.terminal.run_table import run_table

        return [run_table(self._results, width)]

    def _lines(self) -> list[Any]:
        """Return the expectations, and the failed runs, as lines."""
        from gradlab.terminal.fitted_table import literal_text
        from gradlab.terminal.run_table import expectation_lines

        lines: list[Any] = expectation_lines(self.expectations)
        return [*lines, *self._notices(), *(literal_text(each, "bold red") for each in self._errors())]

    def _failures(self) -> list[str]:
        from gradlab.terminal.run_table import expectation_lines

        missed = [each for each in self.expectations if not each.ok]
        return [
            *self._errors(),
            *(line.plain for line in expectation_lines(missed)),
            *(self._notices() if missed else []),
        ]

    def _notices(self) -> list[str]:
        from gradlab.terminal.run_table import evaluation_notice

        with words_of_python():
            notice = evaluation_notice(self._results, self.expectations)
        return [notice] if notice else []

    def _errors(self) -> list[str]:
        from gradlab.terminal.run_table import failure_messages

        return failure_messages(each for each in self._results if each.status != "done")


def data_frame(rows: list[dict[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    """Return rows as a pandas DataFrame.

    Raises:
        GradlabError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise GradlabError("to_pandas needs pandas: pip install pandas. result.rows needs nothing.") from None
    return pd.DataFrame(rows, columns=list(columns))
