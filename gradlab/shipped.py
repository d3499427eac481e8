"""Shipped files: experiments, and an example of your own mode."""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """Return the folder of shipped files."""
    package = Path(__file__).parent
    inside = package / "experiments"  # where a wheel puts them
    return inside if inside.is_dir() else package.parent / "experiments"
