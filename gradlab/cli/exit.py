"""How a command ends: its exit status, and the errors that are caught once for all commands."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from gradlab.cli.output import discard_output, print_json, print_message
from gradlab.errors import GradlabError
from gradlab.terminal.signals import Interrupted

DONE, FAILED, AT_FAULT, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141

UsageError = typer.BadParameter.__mro__[1]  # Typer carries its own Click and exports no nearer name


class CommandGroup(TyperGroup):
    """The commands; it turns the errors of all of them into a message and an exit status."""

    def main(  # type: ignore[override]  # it takes all that Typer passes on
        self, args: Any = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Parse, call, and exit with the status of the design."""
        words = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in self._own(words)
        _open_standard_streams()
        streams = sys.stdout, sys.stderr
        extra["obj"] = [getattr(stream, "errors", None) for stream in streams]  # as Python opened them
        for stream in streams:
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # blocks and signs that a terminal does not have
        try:
            status = super().main(words, prog_name or "gradlab", **extra | {"standalone_mode": False})
        except GradlabError as error:
            status = _fail(str(error), AT_FAULT, as_json=as_json)
        except UsageError as error:  # type: ignore[misc]  # mypy cannot see that it is an exception
            status = AT_FAULT
            if message := error.format_message():  # there is none where help was printed instead
                where = error.ctx.command_path if error.ctx else "gradlab"
                _fail(f"{message}\nsee: {where} --help", AT_FAULT, as_json=as_json)
        except Interrupted as interrupted:
            status = _fail(interrupted.message, interrupted.status, as_json=as_json)
        except SystemExit as end:
            status = _status_of(end, as_json=as_json)
        except OSError as error:  # of help, which is printed before there is a command to invoke
            status = _output_lost(error)
        sys.exit(status if isinstance(status, int) else DONE)

    def _own(self, words: list[str]) -> list[str]:
        """Return the words that are ours: of a command that runs a script, what follows that is the script's."""
        command = self.commands.get(words[0]) if words else None
        if command is None or command.context_settings.get("allow_interspersed_args", True):
            return words
        with_value = {name for each in command.params if not getattr(each, "is_flag", False) for name in each.opts}
        for nth, word in enumerate(words[1:], 1):
            if not word.startswith("-") and words[nth - 1] not in with_value:
                return words[:nth]
        return words

    def invoke(self, ctx: Any) -> Any:
        """Call the command and flush its output, so that an error of the output is reported as well."""
        try:
            result = super().invoke(ctx)
            if sys.stdout:
                sys.stdout.flush()
        except KeyboardInterrupt:
            raise Interrupted("interrupted", INTERRUPTED) from None
        except OSError as error:
            if error.filename:
                raise GradlabError(f"{error.filename}: {error.strerror}") from None
            raise typer.Exit(_output_lost(error)) from None
        return result


def _status_of(end: SystemExit, *, as_json: bool) -> int:
    if isinstance(end.__context__, BrokenPipeError):  # how rich ends when its reader has left; it has seen to stdout
        return PIPE_CLOSED
    if end.code is None or isinstance(end.code, int):
        return end.code or DONE
    return _fail(str(end.code), FAILED, as_json=as_json)


def _open_standard_streams() -> None:
    """Open what the caller has closed, or the first file that is opened takes its number and what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _output_lost(error: OSError) -> int:
    """Print why stdout does not take the result, unless its reader has left; return the exit status."""
    discard_output(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED
    print_message(f"standard output: {error.strerror or error}")
    return AT_FAULT


def _fail(message: str, status: int, *, as_json: bool) -> int:
    """Print what went wrong, and return the exit status."""
    if as_json:
        print_json({"error": {"message": message, "exit_status": status}})
    else:
        print_message(message)
    return status
