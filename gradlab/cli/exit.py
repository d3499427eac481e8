"""The end of all commands: their exit status, and their errors as messages."""

from __future__ import annotations

import io
import os
import re
import sys
from itertools import pairwise
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from gradlab.cli.help import PANELS, HelpContext, write_commands
from gradlab.cli.output import discard_output, print_json, print_message
from gradlab.errors import (
    AT_FAULT,
    DONE,
    FAILED,
    INTERRUPTED,
    NO_RESULT,
    PIPE_CLOSED,
    GradlabError,
    NothingComparedError,
)
from gradlab.terminal.signals import Interrupted

UsageError = typer.BadParameter.__mro__[1]  # Typer carries its own Click and exports no nearer name


class CommandGroup(TyperGroup):
    """The commands. Their errors become a message and an exit status."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for command in (self, *self.commands.values()):
            command.context_class = HelpContext

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Typer's signature
        """Return the names of the commands in the order of help."""
        return [name for names in PANELS.values() for name in names]

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Typer's signature
        """Write the commands in panels."""
        write_commands(self.commands, formatter)

    def main(  # type: ignore[override]  # accepts what Typer passes on
        self, args: Any = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run the command line and exit with its status."""
        words = list(sys.argv[1:] if args is None else args)
        as_json = _asks_for_json(self._own(words))
        _open_standard_streams()
        streams = sys.stdout, sys.stderr
        extra["obj"] = [getattr(stream, "errors", None) for stream in streams]  # as Python opened them
        for stream in streams:
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # the terminal may lack block characters
        try:
            status = super().main(words, prog_name or "gradlab", **extra | {"standalone_mode": False})
        except NothingComparedError as error:
            status = _fail(str(error), NO_RESULT, as_json=as_json)
        except GradlabError as error:
            status = _fail(str(error), AT_FAULT, as_json=as_json)
        except UsageError as error:  # type: ignore[misc]  # mypy cannot see that it is an exception
            status = AT_FAULT
            if message := error.format_message():  # empty if help was printed instead
                message = re.sub(r"Input should be ([^,]*), unable.*|Input should be ", r"must be \1", message)
                where = error.ctx.command_path if error.ctx else "gradlab"
                _fail(f"{message}\nSee `{where} --help`.", AT_FAULT, as_json=as_json)
        except Interrupted as interrupted:
            status = _fail(interrupted.message, interrupted.status, as_json=as_json)
        except SystemExit as end:
            status = _status_of(end, as_json=as_json)
        except OSError as error:  # from help, which is printed before a command is invoked
            status = _output_lost(error)
        sys.exit(status if isinstance(status, int) else DONE)

    def _own(self, words: list[str]) -> list[str]:
        """Return the words that are gradlab's own. Those after the script of `audit` belong to the script."""
        command = self.commands.get(words[0]) if words else None
        if command is None or command.context_settings.get("allow_interspersed_args", True):
            return words
        with_value = {name for each in command.params if not getattr(each, "is_flag", False) for name in each.opts}
        for nth, word in enumerate(words[1:], 1):
            if not word.startswith("-") and words[nth - 1] not in with_value:
                return words[:nth]
        return words

    def invoke(self, ctx: Any) -> Any:
        """Call the command and flush its output, to report errors of the output too."""
        try:
            result = super().invoke(ctx)
            if sys.stdout:
                sys.stdout.flush()
        except KeyboardInterrupt:
            raise Interrupted("Interrupted.", INTERRUPTED) from None
        except OSError as error:
            if error.filename:
                raise GradlabError(f"{error.filename}: {error.strerror}") from None
            raise typer.Exit(_output_lost(error)) from None
        return result


def _asks_for_json(words: list[str]) -> bool:
    """Say whether errors are JSON documents, too."""
    by_format = ("--output-format", "json") in pairwise(words) or "--output-format=json" in words
    return "--json" in words or by_format


def _status_of(end: SystemExit, *, as_json: bool) -> int:
    if isinstance(end.__context__, BrokenPipeError):  # rich exits like this if the reader of a pipe left
        return PIPE_CLOSED
    if end.code is None or isinstance(end.code, int):
        return end.code or DONE
    return _fail(str(end.code), FAILED, as_json=as_json)


def _open_standard_streams() -> None:
    """Open the standard streams that the caller closed, or the next opened file would receive our output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number


def _output_lost(error: OSError) -> int:
    """Print why stdout failed, unless its reader left. Return the exit status."""
    discard_output(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED
    print_message(f"Cannot write to stdout: {error.strerror or error}")
    return AT_FAULT


def _fail(message: str, status: int, *, as_json: bool) -> int:
    """Print the error and return the exit status."""
    if as_json:
        print_json({"error": {"message": message, "exit_status": status}})
    else:
        print_message(message)
    return status
