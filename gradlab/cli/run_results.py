"""The results of runs, as run and show print them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradlab.cli.output import print_result, stdout_console

if TYPE_CHECKING:
    from gradlab.analysis.results import Result


def result_json(result: Result) -> dict[str, Any]:
    """Return a result as JSON shows it."""
    shown = result._asdict() | {"folder": str(result.folder)}
    del shown["rows"]
    return {key: value for key, value in shown.items() if value or key not in ("error", "damaged")}


def print_runs(results: list[Result], *, epochs: bool = True) -> None:
    """Print the table of runs, after the mean loss of each epoch."""
    from gradlab.terminal.run_table import epoch_lines, run_table

    for line in epoch_lines(results) if epochs else []:
        print_result(line)
    console = stdout_console()
    console.print(run_table(results, console.width))


def runs_by_error(results: list[Result]) -> dict[str, list[Result]]:
    """Return the runs that failed, by the error that ended them."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.error:
            found.setdefault(result.error, []).append(result)
    return found
