"""Pictures of runs and sweeps, for `plot` and for --plot of `run` and `sweep`."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from gradlab.cli.output import print_message, print_result
from gradlab.cli.stored_runs import print_missing_runs, read_runs
from gradlab.errors import StoreError, shortened
from gradlab.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gradlab.store import RunFolder, SweepFolder


def draw_runs(
    runs: list[RunFolder],
    output: list[Path] | None,
    *,
    y: str = "loss",
    mode: list[str] | None = None,
    theory: bool = False,
    quiet: bool = False,
    **options: Any,
) -> None:
    """Draw `y` of these runs, by default to loss.png, or y.png, in their experiment's folder.

    Args:
        runs: the runs.
        output: the files.
        y: the logged quantity.
        mode: the modes to draw; None for all.
        theory: draw closed forms.
        quiet: do not print the names of the files.
        **options: of `plotting.draw`.
    """
    from gradlab import plotting
    from gradlab.analysis.quantities import LOSS, choose_quantity, runs_without

    plotting.check_formats(output or [])
    read = list(read_runs(runs))
    chosen = plotting.choose_modes(list(dict.fromkeys(run.record.mode for run in read)), mode or [])
    logged = [run for run in read if run.record.mode in chosen]
    quantity = choose_quantity(logged, y)
    drawn = [(run.record, run.values_of(quantity)) for run in logged]
    without_theory = plotting.without_theory(drawn, quantity) if theory else []
    draw = partial(plotting.draw, drawn, y=quantity, theory=theory, **options)
    _write(draw, output or [_default_picture(runs, quantity)], quiet=quiet)
    for reason in without_theory:
        print_message(reason)
    if quantity.endswith(LOSS) and (warning := plotting.different_losses(run.record for run in logged)):
        print_message(f"{warning}. Compare the shapes of these curves, not their heights.")
    if lacking := runs_without(logged, quantity):
        print_message(f"{counted(len(lacking), 'run')} did not log {quantity}: {shortened(', '.join(lacking), 200)}")
    for run in logged:
        if run.record.status != "done":
            print_message(
                f"{run.record.mode} seed {run.record.seed} is incomplete: {run.record.status}, {len(run.rows)} rows"
            )


def draw_sweeps(
    sweeps: list[SweepFolder],
    output: list[Path] | None,
    *,
    color: str | None = None,
    title: str | None = None,
    quiet: bool = False,
    **options: Any,
) -> None:
    """Draw sweeps next to each other, by default to phase.png, or phase-COLOR.png, in the first sweep's folder.

    Args:
        sweeps: the sweeps.
        output: the files.
        color: the column that gives the colour; None for training_set_loss, where there is one.
        title: the title; None for the one that they share.
        quiet: do not print the names of the files.
        **options: of `plotting.draw_phases`.
    """
    from gradlab import plotting

    first = sweeps[0]
    plotting.check_formats(output or [])
    read = [(sweep.read(), sweep.results()) for sweep in sweeps]
    records = [record for record, _ in read]
    panels: list[Any] = []
    column, notice = plotting.color_of([results for _, results in read], color)
    for (record, results), name in zip(read, plotting.sweep_titles(records), strict=True):
        for panel in plotting.panels_of_sweep(record, results, column):
            words = [name, panel.title] if len(sweeps) > 1 else [panel.title]
            panels.append(panel._replace(title=", ".join(filter(None, words))))
        print_missing_runs(record, results)
    if title is None:
        title = plotting.common_title(records)
    file = first.picture_file if len(sweeps) == 1 else first.shared_picture_file
    is_default = color is None or column == plotting.DEFAULT_COLOR
    files = output or [file if is_default else file.with_stem(f"{file.stem}-{column}")]
    _write(partial(plotting.draw_phases, panels, title=title, **options), files, quiet=quiet)
    if notice and not quiet:
        print_message(notice)


def _default_picture(runs: list[RunFolder], quantity: str) -> Path:
    """Return the file in the folder of the first run's experiment, named after what distinguishes these runs."""
    from gradlab import plotting, store

    experiment = store.ExperimentFolder(runs[0].path.parent)
    others = []
    for run in experiment.runs():
        if run not in runs:
            with suppress(StoreError):
                others.append(run.read())
    return experiment.picture_file(plotting.picture_name([run.read() for run in runs], others, quantity))


def _write(draw: Callable[..., Any], files: list[Path], *, quiet: bool) -> None:
    """Write the figure to every file in the format of its suffix, and print the file names.

    A width in pixels is not one of PDFs.
    """
    from gradlab import plotting, store

    figures: dict[bool, Any] = {}
    for file in files:
        is_pdf = file.suffix.lower() == ".pdf"
        if is_pdf not in figures:
            figures[is_pdf] = draw(width=None) if is_pdf else draw()
        store.write_bytes(file, plotting.rendered(figures[is_pdf], file.suffix))
        if not quiet:
            print_result(file)
