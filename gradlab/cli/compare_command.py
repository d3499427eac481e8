"""gradlab compare: your own script under several modes, unchanged."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradlab.cli import options
from gradlab.cli.app import app
from gradlab.cli.completion import complete_mode
from gradlab.cli.output import print_json, print_lines, print_message, stdout_console
from gradlab.cli.pictures import draw_runs
from gradlab.cli.run_results import print_errors, print_folder, result_json
from gradlab.cli.training_session import progress_display, training_session
from gradlab.errors import DONE, FAILED

if TYPE_CHECKING:
    from gradlab.comparison.comparing import Comparison


@app.command(
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False},
    epilog="Arguments and options after SCRIPT.py belong to the script.",
)
def compare(
    script: Annotated[str, typer.Argument(metavar="SCRIPT.py", help="Run this script. With --module, name a module.")],
    args: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="Pass these arguments to the script.")
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            "--mode",
            "-m",
            metavar="MODE",
            autocompletion=complete_mode,
            help="Impose this mode (see `gradlab modes`); repeat to compare several. "
            "Default: zero_grad, no_zero_grad, halve_grad.",
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            metavar="SEED",
            help="Seed the script's generators; repeat to plot the median and range. Default: 42.",
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", help="Use the seeds 0 to N-1. Default: one seed.", min=1, max=100_000)
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(metavar="N", help="End each run after N backward passes. Default: no limit.", min=1)
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="End each run after this time. Default: no limit.", min=0)
    ] = None,
    jobs: Annotated[
        int, typer.Option(metavar="N", help="Run N scripts at the same time. Default: 1.", min=1, show_default=False)
    ] = 1,
    module: Annotated[bool, typer.Option("--module", help="Run a module by name, as in package.module.")] = False,
    only_optimizer: Annotated[
        int | None,
        typer.Option(metavar="N", help="Impose the modes on the N-th optimizer only. Default: on all.", min=1),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="Run in the script's own folder. Default: in a copy for each run.")
    ] = False,
    *,
    plot: options.Plot = None,
    out: options.Out = options.RUNS,
    fresh: options.Fresh = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run your own training script under several modes and compare the losses."""
    if plot:
        from gradlab import plotting

        plotting.check_formats(plot)
    from gradlab.comparison.comparing import compare as compared
    from gradlab.comparison.request import CompareRequest, chosen_seeds, find_script, parse_modes
    from gradlab.terminal.progress import RunProgress

    request = CompareRequest(
        find_script(script, is_module=module),
        tuple(args or ()),
        parse_modes(mode or []),
        chosen_seeds(options.chosen_seeds(seed, seeds) or None, "--seed"),
        most_passes=max_steps,
        timeout=timeout,
        only=only_optimizer,
        in_place=in_place,
        fresh=fresh,
        jobs=jobs,
    )
    progress = None if json or quiet else RunProgress(progress_display(), request.runs)
    with training_session(progress) as stop:
        comparison = compared(request, out, progress=progress, stop=stop)
    has_rows = any(run.rows for run in comparison.runs)
    if json:
        print_json(_comparison_json(comparison))
    else:
        _print_comparison(comparison, quiet=quiet)
        if has_rows and not plot and not quiet:
            print_message(f"To draw: gradlab plot {shlex.quote(str(comparison.folder))}")
    if plot and has_rows:
        from gradlab import store

        draw_runs([store.RunFolder(run.folder) for run in comparison.runs], plot, quiet=json or quiet)
    raise typer.Exit(DONE if comparison.ok else FAILED)


def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "script": comparison.script,
        "folder": str(comparison.folder),
        "runs": [result_json(run) for run in comparison.runs],
        "expectations": [],
        "notes": [*comparison.notes, *comparison.faults],
    }


def _print_comparison(comparison: Comparison, *, quiet: bool) -> None:
    from gradlab.terminal.comparison_lines import as_written_line, imposed_lines, last_lines
    from gradlab.terminal.run_table import run_table

    runs, console = comparison.runs, stdout_console()
    if any(run.rows for run in runs):
        if line := as_written_line(runs):
            print_lines([line])
        console.print(run_table(runs, console.width))
        print_lines(imposed_lines(runs))
        if printed := last_lines(runs):
            console.print(printed)
    print_errors(runs)
    for note in (*comparison.notes, *comparison.faults):
        print_message(note)
    print_folder(comparison.folder, runs, quiet=quiet)
