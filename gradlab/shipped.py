"""What ships with gradlab besides its code: experiments, and an example of a mode of one's own."""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """Return the folder of what ships."""
    package = Path(__file__).parent
    inside = package / "experiments"  # where a wheel puts them
    return inside if inside.is_dir() else package.parent / "experiments"
