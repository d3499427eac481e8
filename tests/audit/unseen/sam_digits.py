"""Sharpness-aware minimization (SAM) around SGD."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, **kwargs):
        super().__init__(params, dict(rho=rho, **kwargs))
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self):
        norms = [p.grad.norm() for g in self.param_groups for p in g["params"] if p.grad is not None]
        total = torch.stack(norms).norm()
        for group in self.param_groups:
            scale = group["rho"] / (total + 1e-12)
            for p in group["params"]:
                if p.grad is None:
                    continue
                self.state[p]["old_p"] = p.detach().clone()
                p.add_(p.grad * scale)  # climb to the local maximum
        self.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                p.copy_(self.state[p]["old_p"])  # back to where we were
        self.base_optimizer.step()
        self.zero_grad()


def glyphs(n, n_classes=6, size=6):
    g = torch.Generator().manual_seed(0)
    templates = (torch.rand(n_classes, size * size, generator=g) > 0.5).float()
    y = torch.randint(0, n_classes, (n,))
    flip = torch.rand(n, size * size) < 0.15
    x = torch.where(flip, 1 - templates[y], templates[y])
    return TensorDataset(x, y)


def main():
    torch.manual_seed(10)
    train = DataLoader(glyphs(400), batch_size=40, shuffle=True)
    test_x, test_y = glyphs(200).tensors
    model = nn.Sequential(nn.Linear(36, 48), nn.ReLU(), nn.Linear(48, 6))
    criterion = nn.CrossEntropyLoss()
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)

    for epoch in range(8):
        total = 0.0
        for x, y in train:
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.first_step()

            criterion(model(x), y).backward()
            optimizer.second_step()
            total += loss.item()
        with torch.no_grad():
            acc = (model(test_x).argmax(1) == test_y).float().mean()
        print(f"epoch {epoch} loss {total / len(train):.4f} acc {acc:.3f}")
    print("final loss", total / len(train))


if __name__ == "__main__":
    main()
