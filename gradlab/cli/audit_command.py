"""gradlab audit: what a training script does with its gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gradlab.cli.app import app
from gradlab.errors import printable

if TYPE_CHECKING:
    from gradlab.audit import Report


@app.command(
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False},
    epilog="What comes after SCRIPT is the script's own, options too.",
)
def audit(
    context: typer.Context,
    script: Annotated[str, typer.Argument(metavar="SCRIPT.py", help="The script to run; with -m, a module.")],
    args: Annotated[list[str] | None, typer.Argument(metavar="ARGS", help="The script's own arguments.")] = None,
    module: Annotated[bool, typer.Option("-m", help="SCRIPT is the name of a module: package.module.")] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Measure at updates 1, 2 and every N-th; default: the first 8, 1 in 23, fewer from the 184th on.",
            min=1,
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout; the script's own goes to stderr.")
    ] = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit 0 whatever is found; else 1, notes aside.")
    ] = False,
) -> None:
    """Run your training script and say what it does with its gradients."""
    from gradlab.audit.script.command import audit as audited
    from gradlab.audit.script.signals import Interrupts
    from gradlab.audit.script.streams import Streams
    from gradlab.store import strict_json

    def write(report: Report, status: int) -> None:
        if json:
            document = report.as_json(script, status)
            streams.write_result(strict_json(document, indent=2, ascii_only=True) + "\n")
        for line in report.history.remarks() if json else report.lines(_width_of_stderr()):
            streams.write_message(printable(line))

    streams = Streams(to_stderr=json, errors=context.obj)
    interrupts = context.find_root().with_resource(Interrupts())  # as long as another document might be written
    try:
        status = audited(script, args or [], write, interrupts, is_module=module, sample=sample, strict=not exit_zero)
    except BaseException:  # an error message goes to stdout instead of a report, with --json
        streams.take_back()
        raise
    finally:
        streams.restore()
    raise typer.Exit(status)


def _width_of_stderr() -> int:
    from rich.console import Console

    return Console(stderr=True).width
