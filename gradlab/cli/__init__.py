"""The command line: parse, call, show. The only package that prints or exits."""

from gradlab.cli.app import app

# isort: off
from gradlab.cli import (  # noqa: F401 - each adds its command to the application; help lists them in this order
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

__all__ = ["app", "main"]

main = app
