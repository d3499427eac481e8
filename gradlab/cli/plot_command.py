"""gradlab plot: draw runs or sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    yscale: Annotated[
        str | None,
        typer.Option(metavar="SCALE", help="Make the y axis log, linear or auto. Default: auto."),
    ] = None,
    ylim: Annotated[
        str | None,
        typer.Option(metavar="BOTTOM:TOP", help="End the y axis here, as in 0:2, 0: or :2. Default: what suits."),
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option("--mode", "-m", metavar="MODE", help="Draw this mode; repeat for more. Default: all."),
    ] = None,
    smooth: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Draw running medians of N points, the curve itself faintly; 1 draws every point. "
            "Default: medians of blocks where a long curve is noisy.",
            min=1,
        ),
    ] = None,
    title: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Set the title. Default: the experiment's, if it holds.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WIDTHxHEIGHT", help="Set the size in inches, as in 3.5x2.5. Default: 8 inches wide."),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="Set the width of a PNG or SVG. Default: 1200; with --size, 300 per inch.",
            min=400,
            max=6000,
            show_default=False,
        ),
    ] = None,
    theory: Annotated[
        bool, typer.Option("--theory", help="Also draw the predicted losses (dashed), where theory has a closed form.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not print the names of the files.")] = False,
) -> None:
    """Draw the curves of runs, or the map of a sweep."""
    from gradlab import plotting, store

    page: dict[str, Any] = {"title": title, "width": width, "size": plotting.parse_size(size) if size else None}
    limits = plotting.parse_limits(ylim) if ylim else None
    curves: dict[str, Any] = {"y": y, "yscale": yscale, "ylim": limits, "mode": mode, "smooth": smooth}
    sweeps = [store.newest_sweep(folder) for folder in folders or [store.RUNS]]
    if all(sweeps):
        if given := [name for name, value in curves.items() if value is not None]:
            more = " Use --color." if given[0] == "y" else ""
            raise PlotError(f"--{given[0]} draws curves of runs, but this is a sweep, which has a map.{more}")
        draw_sweeps([sweep for sweep in sweeps if sweep], output, color=color, quiet=quiet, **page)
    elif color is not None:
        raise PlotError(f"--color {shortened(color)}: only a map has colours. Pass the folder of a sweep.")
    else:
        given_curves = {name: value for name, value in curves.items() if value is not None}
        draw_runs(select_runs(folders), output, axis=x, theory=theory, quiet=quiet, **given_curves, **page)
