"""gradlab explore: write a page to play with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradlab.cli.app import app
from gradlab.cli.output import print_message, print_result


@app.command()
def explore(
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write to FILE (.html). Default: explore.html.", show_default=False
        ),
    ] = Path("explore.html"),
    open_: Annotated[bool, typer.Option("--open", help="Open the page in your browser.")] = False,
) -> None:
    """Write a page where you try lr, keep and batch size by hand."""
    from gradlab import pages, store

    store.write_page(output, pages.explore_page())
    print_result(output)
    if open_:
        open_in_browser(output)


def open_in_browser(file: Path) -> None:
    """Open a page in the user's browser, or name the file to open."""
    import webbrowser

    if not webbrowser.open(file.resolve().as_uri()):
        print_message(f"No browser found. Open {file} in one.")
