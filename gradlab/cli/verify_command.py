"""gradlab verify: test common claims about zero_grad()."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from gradlab.cli.app import app
from gradlab.cli.options import Json
from gradlab.cli.output import print_json, print_message, stdout_console
from gradlab.errors import DONE, FAILED

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


@app.command()
def verify(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Test this claim. Repeat for more claims. Default: all."),
    ] = None,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the answers: no progress.")] = False,
) -> None:
    """Test common claims about zero_grad()."""
    from gradlab import verify as claims
    from gradlab.terminal.claim_results import claim_block, claims_line

    chosen, findings = claims.select(only), []
    console = stdout_console()
    for nth, claim in enumerate(chosen, 1):
        with nullcontext() if json or quiet else _progress(f"claim {nth}/{len(chosen)} {claim.name}"):
            findings.append(claims.measure(claim))
        if not json:
            console.print(claim_block(findings[-1]))
    if json:
        keys = ("name", "statement", "answer", "figures", "ok")
        print_json({"claims": [{key: getattr(each, key) for key in keys} for each in findings]})
    else:
        console.print(claims_line(findings))
    raise typer.Exit(DONE if all(finding.ok for finding in findings) else FAILED)


def _progress(text: str) -> AbstractContextManager[object]:
    """Show the claim under test: as a status on a terminal, as a line elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        return console.status(text)
    print_message(text)
    return nullcontext()
