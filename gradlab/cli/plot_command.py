"""gradlab plot: draw runs or sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradlab.cli.app import app
from gradlab.cli.pictures import draw_runs, draw_sweeps
from gradlab.cli.stored_runs import select_runs
from gradlab.errors import PlotError, shortened


@app.command()
def plot(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FOLDER", help="Draw these runs, experiments or sweeps. Default: the newest under runs/."
        ),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Write to FILE (.png, .svg or .pdf). Repeat for more files. Default: a PNG in the folder.",
        ),
    ] = None,
    x: Annotated[
        str | None,
        typer.Option("--x", metavar="AXIS", help="Draw over step, update or epoch. Default: what suits the runs."),
    ] = None,
    y: Annotated[
        str | None,
        typer.Option("--y", metavar="NAME", help="Draw this logged quantity, such as validation_loss. Default: loss."),
    ] = None,
    color: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Colour the map of a sweep by training_set_loss, last_loss, best_loss, validation_loss or a metric. "
            "Default: training_set_loss.",
        ),
    ] = None,
    width: Annotated[
        int,
        typer.Option(
            metavar="PIXELS", help="Set the width of a PNG. Default: 1200.", min=400, max=6000, show_default=False
        ),
    ] = 1200,
    title: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Set the title. Default: the experiment's.")
    ] = None,
    theory: Annotated[
        bool, typer.Option("--theory", help="Also draw the predicted losses (dashed), where theory has a closed form.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not print the names of the files.")] = False,
) -> None:
    """Draw the curves of runs, or the map of a sweep."""
    from gradlab import store

    sweeps = [store.newest_sweep(folder) for folder in folders or [store.RUNS]]
    if all(sweeps):
        if y is not None:
            raise PlotError("--y draws curves of runs, but this is a sweep, which has a map. Use --color.")
        chosen = [sweep for sweep in sweeps if sweep]
        draw_sweeps(chosen, output, color=color, title=title, width=width, quiet=quiet)
    elif color is not None:
        raise PlotError(f"--color {shortened(color)}: only a map has colours. Pass the folder of a sweep.")
    else:
        found = select_runs(folders)
        draw_runs(found, output, x=x, y=y or "loss", title=title, width=width, theory=theory, quiet=quiet)
