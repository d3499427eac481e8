"""CPU time of commands that compute nothing, against the least that they could take.

`--help`, `list` and `show` against a bare typer program; `plot` against importing matplotlib.figure and saving one
figure. Processes take turns; what counts is the median of the ratios. Goal: at most 1.5.

    make bench        or        python -m tests.benchmarks.startup [PAIRS]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

GOAL = 1.5
TYPER = """
import typer
app = typer.Typer()
@app.command()
def hello(name: str = "you") -> None:
    "Say hello."
    print("hello", name)
app()
"""
FIGURE = """
from matplotlib.figure import Figure
figure = Figure()
figure.add_subplot().plot([1, 2], [1, 2])
figure.savefig("bare.png")
"""


def cpu(command: list[str], folder: Path) -> float:
    """Return the seconds of CPU time, user and system, that the command takes."""
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    """Measure each command and print a line each."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    gradlab = [sys.executable, "-m", "gradlab"]
    missed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bare_typer.py").write_text(TYPER)
        (folder / "bare_figure.py").write_text(FIGURE)
        subprocess.run([*gradlab, "run", "--quiet"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        bare_typer, bare_figure = [sys.executable, "bare_typer.py"], [sys.executable, "bare_figure.py"]
        for ours, bare in (
            (["--help"], [*bare_typer, "--help"]),
            (["list"], bare_typer),
            (["show", "runs/diverging_loss"], bare_typer),
            (["plot", "--quiet"], bare_figure),
        ):
            command = [*gradlab, *ours]
            cpu(command, folder), cpu(bare, folder)  # warm up
            times = [(cpu(command, folder), cpu(bare, folder)) for _ in range(pairs)]
            ratios = [one / other for one, other in times]
            missed |= median(ratios) > GOAL
            print(  # noqa: T201 - a benchmark prints
                f"gradlab {ours[0]}: {median(ratios):.2f} times {bare[1]} (goal {GOAL}; {pairs} pairs, "
                f"{min(ratios):.2f} to {max(ratios):.2f}; {median(one for one, _ in times) * 1e3:.0f} ms of CPU)"
            )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
