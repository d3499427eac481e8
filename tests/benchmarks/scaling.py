"""What a sweep of many runs costs besides training: the figures of docs/scaling.md, in CPU time.

    python -m tests.benchmarks.scaling 10000 100000 1000000

Results are made up (random losses, synthetic blocks): what is measured is the grid, the cells, what they ship, the
file of results, and, on a scheduler and two workers of this machine, scheduling cells that train nothing. CPU time is
told, so that a busy machine matters little.
"""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradlab import store
from gradlab.experiment import Override, from_task, identity
from gradlab.runs import Stop
from gradlab.store import Block, SweepRecord
from gradlab.sweeps import cell_of, cells_of, cluster, grid_of, settings_of, shipping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradlab.sweeps import Grid

SIDES = {10**4: (25, 50), 10**5: (125, 100), 10**6: (250, 500)}  # lr × keep, with 8 seeds
CHUNK = 128
CELLS = 1000  # scheduled at most
VERDICTS: list[Any] = ["falls", "rises", "oscillates", "diverges"]


def grid(runs: int) -> Grid:
    """Return a grid of so many runs."""
    lrs, keeps = SIDES[runs]
    overrides = [Override(("steps",), 1000, ""), Override(("seeds",), list(range(8)), "")]
    return grid_of(from_task("noisy_line", overrides), [f"lr=1e-3:4:{lrs}:log", f"keep=0:1:{keeps}"])


def block(cell: Sequence[int]) -> Block:
    """Return made-up results of a cell."""
    count = len(cell)
    first, last, best = (_losses(count) for _ in range(3))
    verdicts = random.choices(VERDICTS, k=count)  # noqa: S311 - no secret
    return Block("ensemble", list(cell), ["done"] * count, verdicts, [1000] * count, first, last, best, [""] * count)


def _losses(count: int) -> list[float | None]:
    return [random.random() for _ in range(count)]  # noqa: S311 - no secret


def timed(name: str, call: Callable[[], Any]) -> Any:
    """Print the seconds of CPU that a call takes, and return what it does."""
    begin = time.process_time()
    found = call()
    print(f"  {name}: {time.process_time() - begin:.2f} s")  # noqa: T201 - it is what this is for
    return found


def by_files(runs: int, folder: Path) -> None:
    """Measure what does not need a cluster."""
    chosen = timed("grid", lambda: grid(runs))
    cells = timed("cells", lambda: cells_of(chosen, CHUNK))
    ship = shipping.shipper(chosen)
    packed = [pickle.dumps(ship(cell_of(chosen, cell))) for cell in cells[:10]]
    print(f"  {len(cells):,} cells; each ships {max(map(len, packed)):,} bytes "  # noqa: T201
          f"and returns {len(pickle.dumps(block(cells[0]))):,}")  # fmt: skip
    sweep = store.SweepFolder(folder / "noisy_line" / "sweep-made-up")
    sweep.make()

    def write() -> None:
        with sweep.log() as log:
            for cell in cells:
                log.append(block(cell))

    timed("write", write)
    settings = settings_of(chosen)
    axes = [axis._asdict() | {"values": list(axis.values)} for axis in chosen.axes]
    sweep.write(SweepRecord("noisy_line", identity(settings), settings, axes, [], list(chosen.seeds), CHUNK,
                            "ensemble", runs, "done", done=runs))  # fmt: skip
    print(f"  results.jsonl: {sweep.results_file.stat().st_size / 1e6:.1f} MB")  # noqa: T201
    timed("read", sweep.results)
    for command in (["export", str(sweep.path), "--to", "csv", "-o", str(folder / "x.csv")],
                    ["plot", str(sweep.path), "-o", str(folder / "x.png")]):  # fmt: skip
        seconds, megabytes = _child([sys.executable, "-m", "gradlab", *command])
        print(f"  {command[0]}: {seconds:.1f} s, {megabytes:.0f} MB")  # noqa: T201


USED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3)
"""  # in a small process, whose own memory does not count as that of the one it starts


def _child(command: list[str]) -> tuple[float, float]:
    """Return the seconds of CPU and the largest memory in MB of a process."""
    told = subprocess.run([sys.executable, "-c", USED, *command], check=True, capture_output=True, text=True).stdout
    seconds, megabytes = map(float, told.split())
    return seconds, megabytes


def trained(shipment: shipping.Shipment, *_: object) -> Block:
    """Take the place of `train_on_worker`: nothing is trained."""
    return block([run.number for run in shipment.cell.runs])


def by_cluster(runs: int, address: str, scheduler: int) -> None:
    """Measure scheduling alone."""
    import psutil  # type: ignore[import-untyped]  # it comes with distributed

    chosen = grid(runs)
    cells = cells_of(chosen, CHUNK)[:CELLS]
    process = psutil.Process(scheduler)
    with cluster.Cluster(address) as there:
        begin, before = time.process_time(), process.cpu_times()
        ended = sum(1 for _ in there(chosen, cells, lambda *_: None, Stop()))
        after, end = process.cpu_times(), time.process_time()
    theirs = after.user + after.system - before.user - before.system
    here = end - begin
    print(f"  {ended:,} cells scheduled: {here / ended * 1e3:.1f} ms each here")  # noqa: T201
    memory = process.memory_info().rss / 1e6
    print(f"  {theirs / ended * 1e3:.1f} ms each in the scheduler, which holds {memory:.0f} MB")  # noqa: T201


@contextmanager
def scheduler_and_workers(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the address of a scheduler of two workers, and its process."""
    with ExitStack() as stack:
        started = []
        for command in (["scheduler", "--host", "127.0.0.1", "--port", "0"], *[["worker", "--nthreads", "1"]] * 2):
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *command, "--scheduler-file", str(folder / "file.json"),
                 "--no-dashboard"], stderr=subprocess.DEVNULL, cwd=folder,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.terminate)
            started.append(process)
        while not (folder / "file.json").exists():
            time.sleep(0.1)
        yield str(folder / "file.json"), started[0].pid


def main() -> None:
    """Print what so many runs cost, for each number on the command line."""
    counts = [int(each) for each in sys.argv[1:]] or [10**4]
    for runs in counts:
        print(f"{runs:,} runs:")  # noqa: T201
        with tempfile.TemporaryDirectory() as folder:
            by_files(runs, Path(folder))
    cluster.train_on_worker = trained  # type: ignore[assignment]  # in this process alone: it is sent by its name
    with tempfile.TemporaryDirectory() as folder, scheduler_and_workers(Path(folder)) as (address, process):
        for runs in counts:
            print(f"{runs:,} runs, scheduled:")  # noqa: T201
            by_cluster(runs, address, process)


if __name__ == "__main__":
    from tests.benchmarks import scaling  # by the name that workers import it under

    scaling.main()
