"""The command line: parse, call, show. The only package that prints or exits."""

from gradlab.cli import auditing, reading, training  # they add their commands to the application
from gradlab.cli.app import app

main = app

__all__ = ["app", "auditing", "main", "reading", "training"]
