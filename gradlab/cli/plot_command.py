"""gradlab plot: draw runs or sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradlab.cli.app import app
from gradlab.cli.pictures import draw_runs, draw_sweeps
from gradlab.cli.stored_runs import select_runs


@app.command()
def plot(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Runs or experiments; default the newest under runs/.")
    ] = None,
    output: Annotated[
        list[Path] | None, typer.Option("-o", "--output", help="FILE.png, .svg or .pdf; may be given several times.")
    ] = None,
    x: Annotated[str | None, typer.Option("--x", help="step, update or epoch; default what reads best.")] = None,
    width: Annotated[int, typer.Option(help="Width of a PNG in pixels.", min=400, max=6000)] = 1200,
    title: Annotated[str | None, typer.Option(help="Default: the experiment's.")] = None,
    theory: Annotated[
        bool, typer.Option("--theory", help="Dashed, the closed forms of losses that have them.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not say which files were written.")] = False,
) -> None:
    """Draw the loss of each mode; of a sweep, the phase diagram."""
    from gradlab import store

    sweeps = [store.newest_sweep(folder) for folder in folders or [store.RUNS]]
    if all(sweeps):
        draw_sweeps([sweep for sweep in sweeps if sweep], output, title=title, width=width, quiet=quiet)
    else:
        draw_runs(select_runs(folders), output, x=x, title=title, width=width, theory=theory, quiet=quiet)
