"""One trunk, three heads. Every task has a loader of its own; an update takes one batch of each."""
import itertools

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIM = 16
WEIGHTS = {"class": 1.0, "value": 0.5, "flag": 0.3}


class MultiTask(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(DIM, 48), nn.ELU(), nn.Linear(48, 32), nn.ELU())
        self.heads = nn.ModuleDict({
            "class": nn.Linear(32, 4),
            "value": nn.Linear(32, 1),
            "flag": nn.Linear(32, 1),
        })

    def forward(self, x, task):
        return self.heads[task](self.trunk(x))


def task_data(n=240):
    basis = torch.randn(DIM, 4)
    data = {}
    x = torch.randn(n, DIM)
    data["class"] = TensorDataset(x, (x @ basis).argmax(1))
    x = torch.randn(n, DIM)
    data["value"] = TensorDataset(x, (x @ basis[:, 0]).tanh()[:, None])
    x = torch.randn(n, DIM)
    data["flag"] = TensorDataset(x, ((x @ basis[:, 1]) > 0).float()[:, None])
    return data


LOSSES = {"class": nn.CrossEntropyLoss(), "value": nn.MSELoss(), "flag": nn.BCEWithLogitsLoss()}


def endless(loader):
    while True:
        yield from loader


def clear(model):
    model.trunk.zero_grad()
    for head in model.heads.values():
        head.zero_grad()


def main():
    torch.manual_seed(9)
    torch.set_num_threads(1)
    loaders = {k: DataLoader(d, batch_size=24, shuffle=True) for k, d in task_data().items()}
    streams = {k: endless(l) for k, l in loaders.items()}
    model = MultiTask()
    opt = torch.optim.Adamax(
        [{"params": model.trunk.parameters()}, {"params": model.heads.parameters(), "lr": 1e-2}], lr=4e-3
    )

    for step in itertools.count(1):
        clear(model)
        log = {}
        # one backward per task frees its graph right away
        for task, stream in streams.items():
            x, y = next(stream)
            loss = LOSSES[task](model(x, task), y)
            (WEIGHTS[task] * loss).backward()
            log[task] = loss.item()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        if step % 50 == 0:
            print(step, " ".join(f"{k}={v:.3f}" for k, v in log.items()))
        if step == 200:
            break
    print("final loss", sum(WEIGHTS[k] * v for k, v in log.items()))


if __name__ == "__main__":
    main()
