"""gradlab audit: what a training script does with its gradients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradlab.cli.app import app
from gradlab.errors import printable

if TYPE_CHECKING:
    from gradlab.audit import Report


@app.command(
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False},
    epilog="Arguments and options after SCRIPT.py belong to the script.",
)
def audit(
    context: typer.Context,
    script: Annotated[str, typer.Argument(metavar="SCRIPT.py", help="Run this script. With -m, name a module.")],
    args: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="Pass these arguments to the script.")
    ] = None,
    module: Annotated[bool, typer.Option("-m", help="Run a module by name, as in package.module.")] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Measure the first 2 updates and every N-th. Default: the first 100, then ever fewer.",
            min=1,
        ),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Also check this rule; repeat for more. Default: those of pyproject.toml."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Don't check this rule; repeat for more. Default: those of pyproject.toml."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document. The script's output goes to stderr.")
    ] = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit with 0 even after errors or warnings. Default: exit with 1.")
    ] = False,
) -> None:
    """Check what your training script does with its gradients."""
    from gradlab.audit.choice.rules import choose
    from gradlab.audit.choice.settings import settings_for
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

    settings = settings_for(Path.cwd() if module else Path(script).resolve().parent)
    chosen = choose(select or (), ignore or (), settings.rules(), ("--select", "--ignore"))
    sample = settings.sample if sample is None else sample
    streams = Streams(to_stderr=json, errors=context.obj)
    interrupts = context.find_root().with_resource(Interrupts())  # until the JSON document is written
    try:
        status = audited(
            script,
            args or [],
            write,
            interrupts,
            is_module=module,
            sample=sample,
            chosen=chosen,
            strict=not exit_zero,
        )
    except BaseException:  # with --json, the error goes to stdout instead of a report
        streams.take_back()
        raise
    finally:
        streams.restore()
    raise typer.Exit(status)


def _width_of_stderr() -> int:
    from rich.console import Console

    return Console(stderr=True).width
