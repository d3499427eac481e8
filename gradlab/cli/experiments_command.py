"""gradlab experiments: list the shipped experiments, or print one."""

from __future__ import annotations

from typing import Annotated

import typer

from gradlab.cli.app import app
from gradlab.cli.completion import complete_experiment
from gradlab.cli.options import Json
from gradlab.cli.output import print_json, print_result, print_word_list


@app.command()
def experiments(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPERIMENT", help="Print the TOML file of this experiment.", autocompletion=complete_experiment
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the shipped experiments, or print one."""
    from gradlab import experiment

    if not name:
        titles = {each: experiment.load(each).title for each in experiment.shipped()}
        print_word_list(titles, "experiments", as_json=json)
        return
    toml = experiment.read_text(experiment.locate(name))
    if json:
        print_json({"name": name, "toml": toml})
    else:
        print_result(toml, end="")
