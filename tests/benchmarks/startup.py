"""CPU time of commands that compute nothing or next to nothing, against the least that they could take.

`--help`, `list` and `show` against a bare typer program; `plot` against importing matplotlib.figure and saving one
figure. Processes take turns; what counts is the median of the ratios. Goal: at most 1.5. And `run` over one epoch
against importing torch, of which the differences count. Goal: at most 0.4 s. All sides have one thread.

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
GOAL_OF_RUN = 0.4  # seconds
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
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as process:
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
        run = [*gradlab, "run", "--task", "noisy_line", "--epochs", "1", "--fresh", "--quiet"]
        bare = [sys.executable, "-c", "import torch"]
        cpu(run, folder), cpu(bare, folder)  # warm up
        times = [(cpu(run, folder), cpu(bare, folder)) for _ in range(pairs)]
        more = [one - other for one, other in times]
        missed |= median(more) > GOAL_OF_RUN
        print(  # noqa: T201 - a benchmark prints
            f"gradlab run: {median(more):+.2f} s beside import torch (goal {GOAL_OF_RUN}; {pairs} pairs, "
            f"{min(more):+.2f} to {max(more):+.2f}; {median(one for one, _ in times):.2f} s of CPU, "
            f"{median(other for _, other in times):.2f} s for the import)"
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
