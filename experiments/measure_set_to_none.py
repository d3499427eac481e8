"""Measure what clearing to None saves over clearing to zeros: time per step, bytes in `.grad`, peak memory.

    python experiments/measure_set_to_none.py

Every measurement runs in a new process, because the peak memory of a process never falls. The model is a stack of
Linear layers without bias. The batch size decides how large its activations are compared with its gradients.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from statistics import median

WIDTH, LAYERS, STEPS = 1024, 8, 10
BATCHES = (16, 512)


def measure(
    batch: int, *, set_to_none: bool, width: int = WIDTH, layers: int = LAYERS, steps: int = STEPS
) -> dict[str, float]:
    """Train for some steps; return CPU seconds per step, bytes in `.grad` after a step, and peak memory in bytes."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    stack = [nn.Sequential(nn.Linear(width, width, bias=False), nn.Tanh()) for _ in range(layers)]
    model, x = nn.Sequential(*stack), torch.randn(batch, width)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(steps):
        begin = time.thread_time()
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=set_to_none)
        seconds.append(time.thread_time() - begin)
    held = sum(0 if each.grad is None else each.grad.nbytes for each in model.parameters())
    peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)  # Linux counts in units of 1024 bytes
    return {"seconds": median(seconds), "held": held, "peak": peak}


def main() -> None:
    """Print one line per batch size and way of clearing."""
    for batch in BATCHES:
        for way in ("none", "fill"):
            command = [sys.executable, __file__, str(batch), way]
            done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this file
            found = json.loads(done.stdout)
            milliseconds, held, peak = 1000 * found["seconds"], found["held"] / 2**20, found["peak"] / 2**20
            print(  # noqa: T201 - a script
                f"batch {batch:5}  {way}: {milliseconds:7.2f} ms of CPU time per step, "
                f"{held:5.1f} MiB in .grad after a step, {peak:6.1f} MiB at the peak"
            )


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        print(json.dumps(measure(int(sys.argv[1]), set_to_none=sys.argv[2] == "none")))  # noqa: T201 - a script
