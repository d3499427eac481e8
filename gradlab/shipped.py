"""Shipped files: experiments, an example of your own mode, and a page for every rule of the audit."""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """Return the folder of shipped experiments."""
    return _found("experiments", "experiments")


def rules() -> Path:
    """Return the folder of the pages of rules."""
    return _found("rules", "docs/rules")


def _found(installed: str, in_checkout: str) -> Path:
    package = Path(__file__).parent
    inside = package / installed  # where a wheel puts them
    return inside if inside.is_dir() else package.parent / in_checkout
