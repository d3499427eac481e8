"""What processes cost that take turns: seconds of CPU and of wall time, and the medians of their ratios."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")
PEAK = "VmHWM:"  # of this process alone: what `ru_maxrss` tells begins with that of the process that started it


class Cost(NamedTuple):
    """Seconds of CPU time, user and system, those of children that have ended included; and of wall time."""

    cpu: float
    wall: float

    def since(self, before: Cost) -> Cost:
        """Return what was spent after `before`."""
        return Cost(self.cpu - before.cpu, self.wall - before.wall)

    def plus(self, other: Cost) -> Cost:
        """Return both together."""
        return Cost(self.cpu + other.cpu, self.wall + other.wall)

    def a(self, units: float) -> Cost:
        """Return the cost of one of so many."""
        return Cost(self.cpu / units, self.wall / units)


class Compared(NamedTuple):
    """One against another: the median of the ratios, the least and the greatest, of each kind of time."""

    cpu: tuple[float, float, float]
    wall: tuple[float, float, float]

    def __str__(self) -> str:
        (cpu, *_), (wall, least, most) = self
        return f"{wall:.2f} times in wall time ({least:.2f} to {most:.2f}), {cpu:.2f} times in CPU time"


def now() -> Cost:
    """Return what this process has cost so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return Cost(sum(each.ru_utime + each.ru_stime for each in used), time.perf_counter())


def spent(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> tuple[Cost, str]:
    """Return what a whole process costs, from its start to its end, and what it prints."""
    begin = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - begin
    assert process.returncode == 0, f"{command} ended with status {process.returncode}:\n{printed}"
    return Cost(usage.ru_utime + usage.ru_stime, wall), printed


def rounds(sides: Mapping[str, Callable[[], T]], times: int) -> dict[str, list[T]]:
    """Call each side so often, in turns; every other round goes backwards, so that a drift falls on all alike."""
    found: dict[str, list[T]] = {name: [] for name in sides}
    for nth in range(times):
        for name in sorted(sides, key=list(sides).index, reverse=nth % 2 == 1):
            found[name].append(sides[name]())
    return found


def compared(ones: Sequence[Cost], others: Sequence[Cost]) -> Compared:
    """Return how many times `others` of the same rounds each of `ones` costs."""
    cpu, wall = ([one[kind] / other[kind] for one, other in zip(ones, others, strict=True)] for kind in (0, 1))
    return Compared((median(cpu), min(cpu), max(cpu)), (median(wall), min(wall), max(wall)))


def middle(costs: Sequence[Cost]) -> Cost:
    """Return the median of each kind of time."""
    return Cost(median(each.cpu for each in costs), median(each.wall for each in costs))


def peak_memory() -> float:
    """Return the most memory that this process ever held, in MB (Linux; elsewhere what `getrusage` tells)."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) for line in lines if line.startswith(PEAK)) / 1024


def keep_to(cores: int) -> None:
    """Let this process, and those that it starts, run on so many cores; where that can be said to the kernel.

    XLA takes its number of threads from it. Its flags (--xla_cpu_multi_thread_eigen=false and the like) change nothing
    in JAX 0.10.2: CPU time by thread is as without them; with one core, all is one thread's.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
