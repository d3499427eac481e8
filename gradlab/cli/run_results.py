"""Results of runs, as `run` and `show` print them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from gradlab.cli.output import print_message, print_result, stdout_console
from gradlab.wording import reused

if TYPE_CHECKING:
    from pathlib import Path

    from gradlab.analysis.results import Result

MOST_LINES = 10  # runs whose last evaluations are printed line by line
WITHOUT_BRAILLE = ("dumb", "linux")  # TERM of terminals whose fonts lack it
COMPARED = ("imposed", "imposed_share", "imposed_reason", "measured", "last_line")  # keys of a user's script


def result_json(result: Result) -> dict[str, Any]:
    """Return the JSON document of a result."""
    shown = result._asdict() | {"folder": str(result.folder)}
    del shown["rows"], shown["compared"], shown["evaluations"]
    if result.evaluations:
        *position, values = result.evaluations[-1]
        shown["last_evaluation"] = dict(zip(("step", "update", "epoch"), position, strict=True)) | values
    kept = {key: result.compared[key] for key in COMPARED if key in result.compared}
    if result.compared:
        del shown["training_set_loss"]
    return {key: value for key, value in shown.items() if value or key not in ("error", "damaged")} | kept


def print_runs(results: list[Result], *, epochs: bool = True) -> None:
    """Print the mean loss of every epoch, then the table of runs."""
    from gradlab.terminal.run_table import epoch_lines, run_table

    for line in epoch_lines(results) if epochs else []:
        print_result(line)
    console = stdout_console()
    console.print(run_table(results, console.width))


def print_evaluations(results: list[Result]) -> None:
    """Print what each of a few runs measured at its end; the table may have no room for it."""
    from gradlab.terminal.run_table import measured_line

    shown = [result for result in results if result.measured]
    for result in shown if len(shown) <= MOST_LINES else []:
        print_result(measured_line(result))


def print_curves(results: list[Result]) -> None:
    """Draw the losses on a terminal of at least 60 columns; elsewhere, print nothing."""
    from gradlab.terminal.curve_plot import NARROW, curve_lines

    console = stdout_console()
    drawn = [each for each in results if each.rows]
    if not _on_terminal() or console.width < NARROW or not drawn:
        return
    from gradlab import store
    from gradlab.analysis.quantities import LOSS
    from gradlab.plotting.views import view_of

    view = view_of([(store.RunFolder(each.folder).read(), each.rows) for each in drawn])
    unicode = console.encoding.startswith("utf") and os.environ.get("TERM", "") not in WITHOUT_BRAILLE
    console.print()
    for line in curve_lines(view, console.width, LOSS, unicode=unicode, coloured=console.color_system is not None):
        console.print(line, soft_wrap=True)


def _on_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def print_errors(results: list[Result]) -> None:
    """Print why runs failed, every reason once."""
    from gradlab.terminal.run_table import failure_messages

    for message in failure_messages(each for each in results if each.error):
        print_message(message)


def print_folder(folder: Path, results: list[Result], *, quiet: bool) -> None:
    """Print where the logs are, and how many finished runs were reused."""
    print_result(f"logs: {folder}")
    cached = sum(each.cached for each in results)
    if cached and not quiet:
        print_message(reused(cached, len(results)))
