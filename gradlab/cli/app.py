"""The application that the commands belong to."""

from __future__ import annotations

from typing import Annotated

import typer

from gradlab import __version__
from gradlab.cli.exit import CommandGroup
from gradlab.errors import DONE

app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: rich cuts off names on a narrow terminal
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `gradlab run`, then `gradlab plot`. `gradlab COMMAND --help` lists the options of a command.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"gradlab {__version__}")
        raise typer.Exit(DONE)


@app.callback()
def gradlab(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Show what should happen to .grad between two optimizer steps."""
