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
    epilog="Arguments and options after SCRIPT.py belong to the script.",
)
def audit(
    context: typer.Context,
    script: Annotated[str, typer.Argument(metavar="SCRIPT.py", help="Run this script. With -m, name a module.")],
    args: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="Pass these arguments to the script.")
    ] = None,
    module: Annotated[bool, typer.Option("-m", "--module", help="Run a module, such as package.module.")] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Measure the first 2 updates and every N-th. Default: the first 100, then ever fewer.",
            min=1,
        ),
    ] = None,
    max_updates: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="End the script after N updates of all optimizers together. Its `finally` code still runs, and may "
            "save a checkpoint. Default: no limit.",
            min=1,
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document. The script's output goes to stderr.")
    ] = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit with 0 even after errors or warnings, or if nothing was audited.")
    ] = False,
) -> None:
    """Check what your training script does with its gradients."""
    from gradlab.audit.script.command import audit as audited
    from gradlab.audit.script.signals import Interrupts
    from gradlab.audit.script.streams import Streams
    from gradlab.store import strict_json

    def write(report: Report, status: int) -> None:
        if json:
            document = report.as_json(script, status)
            streams.write_result(strict_json(document, indent=2, ascii_only=True) + "\n")
        for line in _remarks(report, status) if json else report.lines(_width_of_stderr()):
            streams.write_message(printable(line))

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
            strict=not exit_zero,
            max_updates=max_updates,
        )
    except BaseException:  # with --json, the error goes to stdout instead of a report
        streams.take_back()
        raise
    finally:
        streams.restore()
    raise typer.Exit(status)


def _remarks(report: Report, status: int) -> list[str]:
    """Return what the JSON document does not say."""
    without = None if status else report.nothing_audited
    return [*([f"gradlab audit: nothing audited: {without}"] if without else []), *report.history.remarks()]


def _width_of_stderr() -> int:
    from rich.console import Console

    return Console(stderr=True).width
