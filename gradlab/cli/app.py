"""The application that the commands belong to, and the options that several of them take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradlab import __version__
from gradlab.cli.ending import DONE, Commands

app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Out = Annotated[Path, typer.Option("--out", help="The folder of runs.", show_default=True)]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"gradlab {__version__}")
        raise typer.Exit(DONE)


@app.callback()
def gradlab(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    """See what should happen to .grad between two optimizer steps: a run, a log and a picture."""
