"""The command line: parse, call, show. The only package that prints or exits."""

from gradlab.cli.app import app

# isort: off
# Each module adds its command to the application; help lists them in this order.
from gradlab.cli import (
    audit_command,
    plot_command,
    list_command,
    show_command,
    export_command,
    modes_command,
    tasks_command,
    experiments_command,
    verify_command,
    run_command,
    sweep_command,
    sharpness_command,
)
# isort: on

main = app

__all__ = [
    "app",
    "audit_command",
    "experiments_command",
    "export_command",
    "list_command",
    "main",
    "modes_command",
    "plot_command",
    "run_command",
    "sharpness_command",
    "show_command",
    "sweep_command",
    "tasks_command",
    "verify_command",
]
