"""Three modes × 5 seeds × 2,000 steps by a plain PyTorch loop: every loss logged, curves drawn, a summary printed."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

LR, STEPS, SEEDS, BATCH, SAMPLES = 0.01, 2000, 5, 32, 1024
MODES = {"zero_grad": 0.0, "no_zero_grad": 1.0, "halve_grad": 0.5}


def batches(x: Tensor, y: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        for chosen in torch.randperm(len(x), generator=generator).view(-1, BATCH):
            yield x[chosen], y[chosen]


def train(keep: float, seed: int) -> list[float]:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(SAMPLES, 2, generator=generator)
    y = (x.square().sum(1) > 1.4).long()
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    losses = []
    for _, (inputs, targets) in zip(range(STEPS), batches(x, y, generator), strict=False):
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        if keep == 0:
            optimizer.zero_grad()
        elif keep != 1:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad *= keep
        losses.append(loss.item())
    return losses


def main() -> None:
    losses = {(mode, seed): train(keep, seed) for mode, keep in MODES.items() for seed in range(SEEDS)}
    with open("losses.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["mode", "seed", "step", "loss"])
        for (mode, seed), curve in losses.items():
            writer.writerows([mode, seed, step, loss] for step, loss in enumerate(curve))
    figure, axes = plt.subplots(figsize=(8, 5))
    for mode in MODES:
        each = torch.tensor([losses[mode, seed] for seed in range(SEEDS)])
        epochs = torch.stack([part.mean(1) for part in torch.split(each, SAMPLES // BATCH, dim=1)])
        middle = epochs.median(1).values
        axes.plot(middle, label=mode)
        axes.fill_between(range(len(epochs)), epochs.amin(1), epochs.amax(1), alpha=0.2)
        print(f"{mode:14} first {each[:, 0].median():.4g} last epoch {middle[-1]:.4g} best {each.min():.4g}")
    axes.set(xlabel="epoch", ylabel="training loss", yscale="log")
    axes.legend()
    figure.savefig("losses.png", dpi=150)


if __name__ == "__main__":
    main()
