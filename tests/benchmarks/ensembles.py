"""A thousand runs as one ensemble, against the same runs in the ways that people train them now.

1,024 runs (32 seeds × 32 values of keep, from 0 to 31/32) of the 2-32-32-2 MLP with batches of 32, SGD at lr 0.01,
977 steps each: a million run-steps. Every loss is kept. The ensemble, as it is and compiled, takes turns with

* plain: the loop by hand, one run after the other; some of the runs are trained, the time a run-step is compared;
* joblib: the same loop in a pool of two processes, with and without what it takes to start them;
* jax: `jit(vmap(vmap(scan)))`, all runs, compiling included.

Each side is a process of its own, which may use as many cores as it has threads (joblib always two). What counts is
the median of the ratios of rounds. Their losses must agree (`agreement.py`).

Besides: the memory of a stacked run, and the three modes on 10 seeds as one ensemble against 30 single runs.

    make bench        or        python -m tests.benchmarks.ensembles [--rounds N] [--threads 1] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.benchmarks.agreement import ALIKE_FOR, agreed, apart
from tests.benchmarks.turns import Cost, compared, keep_to, middle, rounds, spent

if TYPE_CHECKING:
    from tests.benchmarks.sides import Found

ROOT = Path(__file__).parents[2]
SIDES = ["plain", "joblib", "jax", "singles", "ours"]
SEEDS, KEEPS, STEPS, SAMPLE = 32, 32, 977, 16
MODES = ["zero_grad", "no_zero_grad", "halve_grad"]
GOALS = {  # times faster in wall time, of the ensemble as it is and compiled
    "plain": {"eager": 25.0, "compiled": 45.0},
    "joblib": {"eager": 12.0},
    "jax": {"eager": 1.0, "compiled": 1.0},
}


def main() -> int:
    """Measure all, or one side as a process."""
    asked = parsed()
    if asked.side:
        print(json.dumps(one_side(asked)))  # noqa: T201 - a benchmark prints
        return 0
    missed = False
    for threads in asked.threads or [1, 2]:
        missed |= against_all(asked, threads)
        three_modes(asked, threads)
    memory()
    return int(missed)


def parsed() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of all sides, taking turns")
    parser.add_argument("--threads", type=int, action="append", help="of torch and of JAX; default 1, then 2")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each run")
    parser.add_argument("--against", action="append", choices=list(GOALS), help="default: all")
    parser.add_argument("--side", choices=SIDES, help="train this one here, and print JSON")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--keeps", type=int, default=KEEPS, help="how many, from 0 up by 1/32; 0: the three modes")
    parser.add_argument("--sample", type=int, default=SAMPLE, help="runs that are trained one by one, and compared")
    parser.add_argument("--at-once", type=int, default=0, help="runs of one ensemble; default all")
    parser.add_argument("--compiled", action="store_true", help="compile the step of the ensemble")
    return parser.parse_args()


def one_side(asked: argparse.Namespace) -> dict[str, Any]:
    """Train in this process; return what was found, as JSON has it."""
    (threads,) = asked.threads or [1]
    keep_to(2 if asked.side == "joblib" else threads)
    import torch

    from tests.benchmarks import sides

    torch.set_num_threads(threads)
    words = [f"keep={nth / KEEPS}" for nth in range(asked.keeps)] or MODES
    chosen = spread(asked.seeds, len(words), asked.sample)
    found = sides.SIDES[asked.side](sides.Case(asked.seeds, words, asked.steps, chosen, asked.compiled, asked.at_once))
    return found._asdict()


def spread(seeds: int, words: int, sample: int) -> list[int]:
    """Return the numbers of so many runs, which differ in seed and in mode as far as they can."""
    return [nth * seeds // sample * words + nth * words // sample for nth in range(sample)]


class Process(NamedTuple):
    """A side, trained by a process of its own."""

    side: str
    threads: int
    steps: int
    seeds: int = SEEDS
    keeps: int = KEEPS
    sample: int = SAMPLE
    compiled: bool = False
    at_once: int = 0

    def found(self) -> Found:
        """Train, and return what the process says."""
        from tests.benchmarks.sides import Found

        numbers = {key: value for key, value in self._asdict().items() if key not in ("side", "compiled")}
        words = [word for key, value in numbers.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        command = [sys.executable, "-m", "tests.benchmarks.ensembles", "--side", self.side, *words]
        _, printed = spent(command + ["--compiled"] * self.compiled, ROOT)
        told = json.loads(printed.splitlines()[-1])
        return Found(**{**told, "before": Cost(*told["before"]), "training": Cost(*told["training"])})


def against_all(asked: argparse.Namespace, threads: int) -> bool:
    """Measure the ensemble against the others, and print a line each; say whether a goal is missed."""
    others = asked.against or list(GOALS)
    at_once = asked.at_once
    ensembles = {
        "eager": Process("ours", threads, asked.steps, at_once=at_once),
        "compiled": Process("ours", threads, asked.steps, at_once=at_once, compiled=True),
    }
    processes = {**{name: Process(name, threads, asked.steps) for name in others}, **ensembles}
    found = rounds({name: each.found for name, each in processes.items()}, asked.rounds)
    run_steps = SEEDS * KEEPS * asked.steps
    say(
        f"{SEEDS * KEEPS:,} runs, {run_steps:,} run-steps, {threads} thread{'s'[: threads - 1]}, {asked.rounds} rounds"
    )
    for name, each in found.items():
        say(f"  {name}: {told(each, run_steps)}")
    missed = False
    for name in others:
        for kind in ensembles:
            missed |= judged(name, kind, found[name], found[kind], run_steps)
            differences = apart(losses_of(found[name]), losses_of(found[kind]))
            say(f"    {agreed(differences, f'{name} and {kind}')}")
    return missed


def judged(name: str, kind: str, theirs: list[Found], ours: list[Found], run_steps: int) -> bool:
    """Print how many times what the ensemble costs the other costs; say whether that misses its goal."""
    once = compared([each.all_told(run_steps) for each in theirs], [each.all_told(run_steps) for each in ours])
    steady = compared([each.a_run_step for each in theirs], [each.a_run_step for each in ours])
    counted = once if name == "jax" else steady
    goal = GOALS[name].get(kind)
    wanted = "" if goal is None else f" (goal ≥ {goal:g}: {'reached' if counted.wall[0] >= goal else 'missed'})"
    say(f"  {name} / {kind}: {counted}{wanted}")
    say(f"    {'steps alone' if name == 'jax' else 'all told'}: {steady if name == 'jax' else once}")
    return goal is not None and counted.wall[0] < goal


def told(found: list[Found], run_steps: int) -> str:
    """Say what a run-step costs, what is spent once, and how many cores were busy."""
    step, once = middle([each.a_run_step for each in found]), middle([each.before for each in found])
    whole = middle([each.all_told(run_steps) for each in found])
    return (
        f"{step.wall * 1e6:.1f} µs a run-step ({step.cpu * 1e6:.1f} of CPU: {step.cpu / step.wall:.2f} cores), "
        f"once {once.wall:.1f} s ({once.cpu:.1f} of CPU), all told {whole.wall * 1e6:.1f} µs ({whole.cpu * 1e6:.1f})"
    )


def three_modes(asked: argparse.Namespace, threads: int, seeds: int = 10, steps: int = 2000) -> None:
    """Measure the three modes on 10 seeds as one ensemble, against as many runs by gradlab's own loop."""
    sides = {name: Process(name, threads, steps, seeds, keeps=0, sample=6) for name in ("singles", "ours")}
    found = rounds({name: each.found for name, each in sides.items()}, min(asked.rounds, 3))
    whole = {name: [each.all_told(each.run_steps) for each in one] for name, one in found.items()}
    say(f"the {len(MODES)} modes on {seeds} seeds, {steps} steps, {threads} thread{'s'[: threads - 1]}")
    for name, each in found.items():
        say(f"  {name}: {told(each, len(MODES) * seeds * steps)}")
    say(f"  {len(MODES) * seeds} single runs / one ensemble: {compared(whole['singles'], whole['ours'])}")
    differences = apart(losses_of(found["singles"]), losses_of(found["ours"]), ALIKE_FOR)
    say(f"    in the first {ALIKE_FOR} steps {agreed(differences, 'the single runs and the ensemble')}")


def memory(steps: int = 20) -> None:
    """Print the memory of a stacked run: the slope of the peak over the number of runs."""
    keeps = [4, 8, 16, 32, 64, 128]
    peaks = [Process("ours", 1, steps, keeps=each).found().peak for each in keeps]
    runs = [SEEDS * each for each in keeps]
    slope, start, r2 = line(runs, peaks)
    say("memory: " + ", ".join(f"{count} runs {peak:.0f} MB" for count, peak in zip(runs, peaks, strict=True)))
    say(f"  {slope * 1024:.0f} kB a stacked run beside {start:.0f} MB; a straight line explains {r2:.4f} of it (R²)")


def line(xs: list[int], ys: list[float]) -> tuple[float, float, float]:
    """Return slope and start of the straight line of least squares, and its R²."""
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    across = sum((each - x) ** 2 for each in xs)
    slope = sum((one - x) * (other - y) for one, other in zip(xs, ys, strict=True)) / across
    left = sum((other - y - slope * (one - x)) ** 2 for one, other in zip(xs, ys, strict=True))
    return slope, y - slope * x, 1 - left / sum((each - y) ** 2 for each in ys)


def losses_of(found: list[Found]) -> list[list[float]]:
    """Return the losses of the compared runs, of all rounds."""
    return [losses for each in found for losses in each.losses]


def say(text: str) -> None:
    """Print a line of the report."""
    print(text, flush=True)  # noqa: T201 - a benchmark prints


if __name__ == "__main__":
    sys.exit(main())
