"""The whole job of a user, from the start of the process to the figure: three modes × 5 seeds × 2,000 steps.

Every loss is logged, curves are drawn with bands, a summary is printed: by `gradlab run`, and by scripts as one writes
them by hand (`by_hand/`). Whole processes take turns; what counts is the median of the ratios of rounds in wall time.
All must have computed the same curves (`agreement.py`).

    make bench        or        python -m tests.benchmarks.whole_job [--rounds N] [--threads 1] [--threads 2]
"""

from __future__ import annotations

import argparse
import ast
import csv
import os
import sys
import tempfile
import tokenize
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.agreement import ALIKE_FOR, agreed, apart
from tests.benchmarks.turns import Cost, compared, keep_to, middle, rounds, spent

ROOT = Path(__file__).parents[2]
TASK = Path(__file__).with_name("mlp.py")
SCRIPTS = {name: Path(__file__).with_name("by_hand") / f"{name}.py" for name in ("plain", "functional", "jax_scan")}
STEPS, SEEDS = 2000, 5
GOALS = {"jax_scan": 1.0, "plain": 0.4}
SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}

Curves = dict[tuple[str, int], list[float]]  # losses by mode and seed


def main() -> int:
    """Measure all, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="of all, taking turns")
    parser.add_argument("--threads", type=int, action="append", help="cores that all may use; default 1, then 2")
    parser.add_argument("--engine", default="ensemble", help="of gradlab run")
    asked = parser.parse_args()
    all_cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    missed = False
    for threads in asked.threads or [1, 2]:
        if all_cores:
            os.sched_setaffinity(0, all_cores)
        keep_to(threads)
        missed |= measured(asked.rounds, threads, asked.engine)
    for name, script in {"the task alone": TASK, **SCRIPTS}.items():
        say(f"  {name}: {lines_of_code(script)} lines of code")
    return int(missed)


def measured(times: int, threads: int, engine: str) -> bool:
    """Measure whole processes on so many cores; say whether a goal is missed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_start(folder / "start.npz")
        sides = {"gradlab": partial(by_gradlab, folder, engine)}
        sides |= {each: partial(by_script, folder, script) for each, script in SCRIPTS.items()}
        found = rounds(sides, times)
    say(f"three modes × {SEEDS} seeds × {STEPS} steps on {threads} core{'s'[: threads - 1]}, {times} rounds")
    costs = {name: [cost for cost, _ in each] for name, each in found.items()}
    for name, each in costs.items():
        whole = middle(each)
        say(f"  {name}: {whole.wall:.2f} s, {whole.cpu:.2f} s of CPU")
    missed = False
    for name in SCRIPTS:
        ratio, goal = compared(costs["gradlab"], costs[name]), GOALS.get(name)
        wanted = "" if goal is None else f" (goal ≤ {goal:g}: {'reached' if ratio.wall[0] <= goal else 'missed'})"
        missed |= goal is not None and ratio.wall[0] > goal
        say(f"  gradlab / {name}: {ratio}{wanted}")
        differences = [
            each
            for (_, ours), (_, theirs) in zip(found["gradlab"], found[name], strict=True)
            for each in apart_by_mode(ours, theirs)
        ]
        say(f"    {agreed(differences, f'gradlab and {name}')}")
    return missed


def by_gradlab(folder: Path, engine: str) -> tuple[Cost, Curves]:
    """Do the job by `gradlab run`, anew."""
    gradlab = [sys.executable, "-m", "gradlab"]
    seeds = [word for seed in range(SEEDS) for word in ("--seed", str(seed))]
    job = ["--task", f"{TASK}:mlp", "--steps", str(STEPS), *seeds, "--engine", engine]
    command = [*gradlab, "run", "--fresh", *job, "--plot", "losses.png"]
    cost, _ = spent(command, folder, {"PYTHONPATH": str(ROOT)})
    spent([*gradlab, "export", "runs/mlp", "--to", "csv", "-o", "losses.csv"], folder, {"PYTHONPATH": str(ROOT)})
    return cost, curves(folder)


def by_script(folder: Path, script: Path) -> tuple[Cost, Curves]:
    """Do the job by a script by hand."""
    cost, _ = spent([sys.executable, str(script)], folder)
    return cost, curves(folder)


def curves(folder: Path) -> Curves:
    """Return what is logged there, and take it away with the figure, so that nobody is given another's."""
    found: Curves = {}
    with (folder / "losses.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            found.setdefault((line["mode"], int(line["seed"])), []).append(float(line["loss"]))
    for name in ("losses.csv", "losses.png"):
        (folder / name).unlink()
    assert [len(each) for each in found.values()] == [STEPS] * 3 * SEEDS
    return found


def write_start(file: Path) -> None:
    """Write weights, data and the order of the batches of each seed, for the script that does without torch."""
    import numpy as np
    import torch

    from gradlab.tasks import Minibatches
    from tests.benchmarks.sides import built

    arrays: dict[str, list[torch.Tensor]] = {}
    for task in map(built, range(SEEDS)):
        batches = task.batches
        assert isinstance(batches, Minibatches)
        orders = [torch.randperm(len(batches.inputs), generator=batches.generator) for _ in range(STEPS)]
        order = torch.cat(orders)[: STEPS * batches.batch_size].view(STEPS, batches.batch_size)
        parts = {"x": batches.inputs, "y": batches.targets.int(), "order": order.int()}
        for nth, layer in enumerate(each for each in task.model.children() if isinstance(each, torch.nn.Linear)):
            parts |= {f"w{nth}": layer.weight.detach().T, f"b{nth}": layer.bias.detach()}
        for name, part in parts.items():
            arrays.setdefault(name, []).append(part)
    stacked: Any = {name: torch.stack(parts).numpy() for name, parts in arrays.items()}
    np.savez(file, **stacked)


def apart_by_mode(ones: Curves, others: Curves) -> list[float]:
    """Return how far the curves of each mode and seed are apart."""
    found = []
    for key, losses in others.items():
        found += apart([ones[key]], [losses], ALIKE_FOR if key[0] == "no_zero_grad" else None)
    return found


def lines_of_code(script: Path) -> int:
    """Return how many lines have code on them: neither blank, nor a comment, nor of a docstring."""
    with script.open("rb") as file:
        lines = {
            line
            for token in tokenize.tokenize(file.readline)
            if token.type not in SILENT and token.type != tokenize.ENCODING
            for line in range(token.start[0], token.end[0] + 1)
        }
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def say(text: str) -> None:
    """Print a line of the report."""
    print(text, flush=True)  # noqa: T201 - a benchmark prints


if __name__ == "__main__":
    sys.exit(main())
