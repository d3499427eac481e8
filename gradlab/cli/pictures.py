"""Pictures of runs and sweeps, for `plot` and for --plot of `run` and `sweep`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.cli.output import print_message, print_result
from gradlab.cli.stored_runs import print_missing_runs, read_runs
from gradlab.errors import shortened
from gradlab.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

    from gradlab.store import RunFolder, SweepFolder


def draw_runs(
    runs: list[RunFolder],
    output: list[Path] | None,
    *,
    x: str | None = None,
    y: str = "loss",
    title: str | None = None,
    width: int = 1200,
    theory: bool = False,
    quiet: bool = False,
) -> None:
    """Draw `y` of every mode of these runs, by default to loss.png, or y.png, in their experiment's folder."""
    from gradlab import plotting, store
    from gradlab.analysis.quantities import choose_quantity, runs_without

    plotting.check_formats(output or [])
    logged = list(read_runs(runs))
    quantity = choose_quantity(logged, y)
    files = output or [store.ExperimentFolder(runs[0].path.parent).picture_file(quantity)]
    drawn = [(run.record, run.values_of(quantity)) for run in logged]
    without_theory = plotting.without_theory(drawn, quantity) if theory else []
    _write(plotting.draw(drawn, axis=x, y=quantity, title=title, width=width, theory=theory), files, quiet=quiet)
    for reason in without_theory:
        print_message(reason)
    if lacking := runs_without(logged, quantity):
        print_message(f"{counted(len(lacking), 'run')} did not log {quantity}: {shortened(', '.join(lacking), 200)}")
    for record, rows, _ in logged:
        if record.status != "done":
            print_message(f"{record.mode} seed {record.seed} is incomplete: {record.status}, {len(rows)} rows")


def draw_sweeps(
    sweeps: list[SweepFolder],
    output: list[Path] | None,
    *,
    title: str | None = None,
    width: int = 1200,
    quiet: bool = False,
) -> None:
    """Draw sweeps next to each other, by default to phase.png in the first sweep's folder."""
    from gradlab import plotting

    files = output or [sweeps[0].picture_file]
    plotting.check_formats(files)
    read = [(sweep.read(), sweep.results()) for sweep in sweeps]
    records = [record for record, _ in read]
    panels: list[Any] = []
    for (record, results), name in zip(read, plotting.sweep_titles(records), strict=True):
        for panel in plotting.panels_of_sweep(record, results):
            words = [name, panel.title] if len(sweeps) > 1 else [panel.title]
            panels.append(panel._replace(title=", ".join(filter(None, words))))
        print_missing_runs(record, results)
    if title is None:
        title = plotting.common_title(records)
    _write(plotting.draw_phases(panels, title=title, width=width), files, quiet=quiet)


def _write(figure: Any, files: list[Path], *, quiet: bool) -> None:
    """Write the figure to every file in the format of its suffix, and print the file names."""
    from gradlab import plotting, store

    for file in files:
        store.write_bytes(file, plotting.rendered(figure, file.suffix))
        if not quiet:
            print_result(file)
