"""gradlab sharpness: measure the largest stable learning rate."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Annotated, Any

import typer

from gradlab.cli import options
from gradlab.cli.app import app
from gradlab.cli.output import print_json, stdout_console


@app.command()
@options.takes_experiment_options({"mode", "task", "batch_size", "seed", "set_"})
def sharpness(
    experiment: options.ExperimentName = None,
    *,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            metavar="SEED", help="Use this random seed; repeat to report the median. Default: the experiment's."
        ),
    ] = None,
    json: options.Json = False,
    **values: Any,
) -> None:
    """Measure λ, the largest Hessian eigenvalue of a task, and each mode's largest stable learning rate."""
    overrides = options.overrides_in(values | {"seed": seed})
    chosen = options.choose_experiment("sharpness", experiment, values["task"], overrides)
    from gradlab.analysis import sharpness as measuring

    with redirect_stdout(sys.stderr):  # the output of a user's task
        report = measuring.report(chosen, dict(measuring.measure_seeds(chosen)))
    if json:
        print_json(measuring.document(report))
    else:
        from gradlab.terminal.sharpness_table import sharpness_table

        console = stdout_console()
        console.print(sharpness_table(report, console.width))
