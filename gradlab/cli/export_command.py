"""gradlab export: write rows and evaluations as CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradlab.cli.app import app
from gradlab.cli.stored_runs import evaluated_names, print_missing_runs, read_runs, select_runs
from gradlab.errors import StoreError, unknown


@app.command()
def export(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER", help="Export these runs or experiments, or one sweep.")
    ],
    to: Annotated[
        str, typer.Option(metavar="FORMAT", help="Write this format. Default: csv.", show_default=False)
    ] = "csv",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write to this file. Default: stdout.")
    ] = None,
) -> None:
    """Write the rows and evaluations of runs, or the results of a sweep, as CSV."""
    from gradlab import store

    if to != "csv":
        raise StoreError(unknown("format", to, ["csv"]))
    sweeps = [sweep for folder in folders if (sweep := store.newest_sweep(folder))]
    if sweeps and len(folders) > 1:
        raise StoreError(f"{sweeps[0].path} is a sweep with its own columns. Export it alone.")
    if sweeps:
        from gradlab.sweeps import numbering_of

        record, results = sweeps[0].read(), sweeps[0].results()
        lines = store.csv_of_sweep(record, results, numbering_of(record))
        print_missing_runs(record, results)
    else:
        runs = select_runs(folders)
        geometry = any(run.read().logs_geometry for run in runs)
        lines = store.csv_of(read_runs(runs), evaluated_names(runs), geometry=geometry)
    if output:
        store.write_bytes(output, "".join(lines).encode())
    else:
        for line in lines:
            print(line, end="")
