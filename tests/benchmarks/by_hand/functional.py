"""Three modes × 5 seeds × 2,000 steps by torch.func, all runs at once: logged, drawn, a summary printed."""

from __future__ import annotations

import csv

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn.functional import cross_entropy

LR, STEPS, SEEDS, BATCH, SAMPLES = 0.01, 2000, 5, 32, 1024
MODES = {"zero_grad": 0.0, "no_zero_grad": 1.0, "halve_grad": 0.5}


def build(seed: int) -> tuple[nn.Module, Tensor, Tensor, torch.Generator]:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(SAMPLES, 2, generator=generator)
    y = (x.square().sum(1) > 1.4).long()
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    return model, x, y, generator


def train() -> Tensor:
    models, xs, ys, generators = zip(*(build(seed) for seed in range(SEEDS)), strict=True)
    x, y = torch.stack(xs), torch.stack(ys)
    template = models[0]
    stacked, _ = stack_module_state(list(models) * len(MODES))
    weights = {name: each.detach() for name, each in stacked.items()}
    kept = {name: torch.zeros_like(each) for name, each in weights.items()}
    keep = torch.tensor(list(MODES.values())).repeat_interleave(SEEDS)

    def loss_of(weights: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(functional_call(template, weights, (inputs,)), targets)

    gradients = vmap(grad_and_value(loss_of))
    losses = []
    for step in range(STEPS):
        nth = step % (SAMPLES // BATCH)
        if nth == 0:
            order = torch.stack([torch.randperm(SAMPLES, generator=each) for each in generators])
        chosen = order[:, nth * BATCH : (nth + 1) * BATCH]
        seeds = torch.arange(SEEDS)[:, None]
        inputs, targets = x[seeds, chosen], y[seeds, chosen]
        grads, loss = gradients(weights, inputs.repeat(len(MODES), 1, 1), targets.repeat(len(MODES), 1))
        for name, grad in grads.items():
            kept[name].mul_(keep.view(-1, *[1] * (grad.dim() - 1))).add_(grad)
            weights[name] -= LR * kept[name]
        losses.append(loss)
    return torch.stack(losses, dim=1).view(len(MODES), SEEDS, STEPS)


def main() -> None:
    losses = train()
    with open("losses.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["mode", "seed", "step", "loss"])
        for mode, of_mode in zip(MODES, losses.tolist(), strict=True):
            for seed, each in enumerate(of_mode):
                writer.writerows([mode, seed, step, loss] for step, loss in enumerate(each))
    figure, axes = plt.subplots(figsize=(8, 5))
    for mode, each in zip(MODES, losses, strict=True):
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
