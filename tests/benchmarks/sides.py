"""The runs of the benchmark of ensembles, trained in each of the ways that it compares.

All train the network of `mlp.py` from the same weights on the same batches, and keep the loss of every step. A way of
training is a function of a `Case` that returns what it `Found`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from gradlab import Mode, Task, modes, train
from gradlab.engines.ensemble import Member, SeedTask, StackedTraining, TracedSteps
from gradlab.engines.ensemble import train as train_ensemble
from gradlab.engines.ensemble.tuning import keep_freed_memory
from gradlab.tasks.global_generators import seed_everything
from tests.benchmarks.mlp import mlp
from tests.benchmarks.turns import Cost, now, peak_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LR = 0.01
WARM = 3  # steps after which all is compiled that will be


class Case(NamedTuple):
    """Runs: each of `modes` with each of the seeds 0, 1, …; those of one seed stand together.

    Attributes:
        seeds: how many.
        modes: their words.
        steps: of each run.
        chosen: numbers of the runs whose losses are compared, and which alone are trained one after the other.
        compiled: let the ensemble compile its step.
        at_once: runs of one ensemble; 0 for all.
    """

    seeds: int
    modes: list[str]
    steps: int
    chosen: list[int]
    compiled: bool = False
    at_once: int = 0

    @property
    def runs(self) -> list[tuple[int, Mode]]:
        """Seed and mode of each run."""
        return [(seed, modes.parse(word)) for seed in range(self.seeds) for word in self.modes]


class Found(NamedTuple):
    """What a way of training costs.

    Attributes:
        before: what is spent once, whatever the number of steps: a pool is started, a step compiled, tasks are built.
        training: what is spent on `run_steps`.
        run_steps: steps of all runs that were trained.
        losses: of the chosen runs, step by step.
        peak: MB of memory at the most.
    """

    before: Cost
    training: Cost
    run_steps: int
    losses: list[list[float]]
    peak: float = 0.0

    @property
    def a_run_step(self) -> Cost:
        """Seconds of training a run-step."""
        return self.training.a(self.run_steps)

    def all_told(self, run_steps: int) -> Cost:
        """Return the seconds a run-step where what is spent once falls on so many of them."""
        return self.a_run_step.plus(self.before.a(run_steps))


def built(seed: int) -> Task:
    """Return the task of a seed as gradlab builds it."""
    seed_everything(seed)
    return mlp(seed)


def forever(task: Task, steps: int) -> Iterator[Any]:
    """Yield so many batches, pass after pass."""
    left = steps
    while True:
        for batch in task.batches:
            if not left:
                return
            left -= 1
            yield batch


def plain(case: Case) -> Found:
    """Train the chosen runs one after the other, by the loop that everybody writes."""
    found = [by_hand(*case.runs[nth], case.steps) for nth in case.chosen]
    spent = Cost(0.0, 0.0)
    for _, cost in found:
        spent = spent.plus(cost)
    return Found(Cost(0.0, 0.0), spent, len(found) * case.steps, [losses for losses, _ in found], peak_memory())


def by_hand(seed: int, mode: Mode, steps: int) -> tuple[list[float], Cost]:
    """Return the losses of one run, and what its loop costs."""
    task, keep = built(seed), mode.keep
    model, criterion = task.model, nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    parameters = list(model.parameters())
    losses: list[float] = []
    begin = now()
    for inputs, targets in forever(task, steps):
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        if keep == 0:
            optimizer.zero_grad()
        elif keep != 1:
            for parameter in parameters:
                assert parameter.grad is not None
                parameter.grad *= keep
        losses.append(loss.item())
    return losses, now().since(begin)


def _in_worker(seed: int, mode: Mode, steps: int) -> tuple[int, list[float], Cost]:
    torch.set_num_threads(1)
    return (os.getpid(), *by_hand(seed, mode, steps))


def pool(case: Case, processes: int = 2) -> Found:
    """Train the chosen runs by the loop by hand, in the processes of a pool: joblib's.

    Training lasts as long as the loops of the worker that has most of them; all else is spent once: processes start,
    import torch, and end.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    begin = now()
    worked: list[tuple[int, list[float], Cost]] = Parallel(n_jobs=processes)(
        delayed(_in_worker)(*case.runs[nth], case.steps) for nth in case.chosen
    )
    if processes > 1:
        get_reusable_executor().shutdown(wait=True)  # CPU time of children counts once they have ended
    whole = now().since(begin)
    walls: dict[int, float] = {}
    for process, _, cost in worked:
        walls[process] = walls.get(process, 0.0) + cost.wall
    training = Cost(sum(cost.cpu for *_, cost in worked), max(walls.values()))
    return Found(
        whole.since(training), training, len(worked) * case.steps, [losses for _, losses, _ in worked], peak_memory()
    )


def singles(case: Case) -> Found:
    """Train all runs one after the other, by gradlab's own loop."""
    spent, losses = Cost(0.0, 0.0), []
    for seed, mode in case.runs:
        task = built(seed)
        optimizer = torch.optim.SGD(task.model.parameters(), lr=LR)
        begin = now()
        losses.append([row.loss for row in train(task, mode, optimizer, steps=case.steps)])
        spent = spent.plus(now().since(begin))
    return Found(Cost(0.0, 0.0), spent, len(losses) * case.steps, [losses[nth] for nth in case.chosen], peak_memory())


def ours(case: Case) -> Found:
    """Train all runs as ensembles of so many at once. Before are the first one's first steps, which compile."""
    begin = warm = now()
    keep_freed_memory()
    steps = TracedSteps(compiled=case.compiled)
    size = case.at_once or len(case.runs)
    losses: list[list[float]] = []
    for at in range(0, len(case.runs), size):
        runs = case.runs[at : at + size]
        seeds = sorted({seed for seed, _ in runs})
        members = [Member(mode, seeds.index(seed)) for seed, mode in runs]
        training = StackedTraining([SeedTask(built(seed)) for seed in seeds], members, _optimizer, traced=steps)
        rows = []
        for row in train_ensemble(training, steps=case.steps):
            rows.append(row.losses)
            if not at and len(rows) == WARM:
                warm = now()
        losses += [[row[nth - at] for row in rows] for nth in case.chosen if at <= nth < at + size]
    end = now()
    assert not steps.fault, f"neither traced nor compiled: {steps.fault}"
    run_steps = len(case.runs) * case.steps - min(size, len(case.runs)) * WARM
    return Found(warm.since(begin), end.since(warm), run_steps, losses, peak_memory())


def _optimizer(parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=LR)


def jax(case: Case) -> Found:
    """Train all runs in JAX: the steps of a run as a scan, the runs by vmap, all compiled.

    It is handed weights and batches as arrays, which are no part of its time. Before training it compiles.
    """
    import numpy as np

    from tests.benchmarks.jax_side import trained

    keeps = [mode.keep for _, mode in case.runs[: len(case.modes)]]
    begin, losses, compiled, end = trained(*arrays(case), keeps, LR)
    flat = np.asarray(losses).reshape(-1, case.steps)
    return Found(
        compiled.since(begin), end.since(compiled), flat.size, [flat[nth].tolist() for nth in case.chosen],
        peak_memory(),
    )  # fmt: skip


def arrays(case: Case) -> tuple[dict[str, Any], Any, Any]:
    """Return the weights of each seed by name, its inputs and its targets, of shapes (seeds, …), (seeds, steps, …)."""
    tasks = [built(seed) for seed in range(case.seeds)]
    states = [task.model.state_dict() for task in tasks]
    weights = {name: torch.stack([state[name] for state in states]).numpy() for name in states[0]}
    inputs, targets = [], []
    for task in tasks:
        batches = list(forever(task, case.steps))
        inputs.append(torch.stack([each for each, _ in batches]))
        targets.append(torch.stack([each for _, each in batches]))
    return weights, torch.stack(inputs).numpy(), torch.stack(targets).to(torch.int32).numpy()


SIDES: dict[str, Callable[[Case], Found]] = {
    "plain": plain,
    "joblib": pool,
    "jax": jax,
    "singles": singles,
    "ours": ours,
}
