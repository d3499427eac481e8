"""gradlab audit: what a training script does with its gradients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradlab.cli.app import app
from gradlab.cli.audit_output import AuditOutput
from gradlab.cli.completion import complete_format, complete_rule
from gradlab.cli.output import print_markdown
from gradlab.errors import DONE

if TYPE_CHECKING:
    from gradlab.audit import Report


def _ids(values: list[str] | None) -> list[str]:
    """Return the ids in the values of a repeated option, which may hold several, separated by commas."""
    return [each.strip() for value in values or () for each in value.strip(", ").split(",")]


def _explain(context: typer.Context, rule: str | None) -> None:
    if rule is None or context.resilient_parsing:
        return
    from gradlab.audit.rule_pages import page

    print_markdown(page(rule).markdown)
    raise typer.Exit(DONE)


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
    select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IDS",
            help="Also check these rules, separated by commas. They add to those of pyproject.toml. Default: none.",
            autocompletion=complete_rule,
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IDS",
            help="Don't check these rules, separated by commas. They add to those of pyproject.toml. Default: none.",
            autocompletion=complete_rule,
        ),
    ] = None,
    output_format: Annotated[
        str | None,
        typer.Option(
            "--output-format",
            metavar="FORMAT",
            help="Print the report to stdout as concise, json, github, gitlab, sarif or junit, and the script's "
            "output to stderr. Default: full, on stderr.",
            autocompletion=complete_format,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output-file",
            metavar="FILE",
            help="Write the report to this file, and the full report to stderr. Default: no file.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Short for --output-format json.")] = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit with 0 even after errors or warnings, or if nothing was audited.")
    ] = False,
    explain: Annotated[  # noqa: ARG001 - its callback prints the page
        str | None,
        typer.Option(
            metavar="RULE",
            help="Print the page of this rule and exit. Default: run the script.",
            is_eager=True,
            callback=_explain,
            autocompletion=complete_rule,
        ),
    ] = None,
) -> None:
    """Check what your training script does with its gradients."""
    from gradlab.audit.choice.rules import choose
    from gradlab.audit.choice.settings import settings_for
    from gradlab.audit.script.command import audit as audited
    from gradlab.audit.script.signals import Interrupts
    from gradlab.audit.script.streams import Streams

    report_to = AuditOutput(output_format, output, json=json)

    def write(report: Report, status: int) -> None:
        report_to.write(report, streams, script, status)

    settings = settings_for(Path.cwd() if module else Path(script).resolve().parent)
    chosen = choose(_ids(select), _ids(ignore), settings.rules(), ("--select", "--ignore"))
    streams = Streams(to_stderr=report_to.takes_stdout, errors=context.obj)
    interrupts = context.find_root().with_resource(Interrupts())  # until the report is written
    try:
        status = audited(
            script,
            args or [],
            write,
            interrupts,
            is_module=module,
            sample=settings.sample if sample is None else sample,
            chosen=chosen,
            strict=not exit_zero,
            max_updates=max_updates,
        )
    except BaseException:  # with JSON, the error goes to stdout instead of a report
        streams.take_back()
        raise
    finally:
        streams.restore()
    raise typer.Exit(report_to.exit_status(status))
