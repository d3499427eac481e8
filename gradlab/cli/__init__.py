"""The command line: parse, call, show. The only package that prints or exits."""

from gradlab.cli import (  # noqa: F401 - each adds its command to the application
    audit_command,
    compare_command,
    experiments_command,
    explore_command,
    export_command,
    list_command,
    modes_command,
    plot_command,
    run_command,
    sharpness_command,
    show_command,
    sweep_command,
    tasks_command,
    verify_command,
)
from gradlab.cli.app import app

__all__ = ["app", "main"]

main = app
