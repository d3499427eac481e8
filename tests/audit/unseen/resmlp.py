"""Residual MLP for a toy physics problem: end position of a thrown ball with drag."""
import torch
import torch.nn as nn


def simulate(v0, angle, drag, steps=40, dt=0.05):
    vx, vy = v0 * angle.cos(), v0 * angle.sin()
    x = torch.zeros_like(v0)
    y = torch.zeros_like(v0)
    for _ in range(steps):
        speed = (vx ** 2 + vy ** 2).sqrt()
        vx = vx - drag * speed * vx * dt
        vy = vy - (1.0 + drag * speed * vy) * dt
        x = x + vx * dt
        y = y + vy * dt
    return torch.stack([x, y], 1)


def dataset(n):
    v0 = 1 + torch.rand(n)
    angle = 0.2 + torch.rand(n)
    drag = 0.3 * torch.rand(n)
    return torch.stack([v0, angle, drag], 1), simulate(v0, angle, drag)


class ResBlock(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.lin1 = nn.Linear(dim, dim)
        self.lin2 = nn.Linear(dim, dim)

    def forward(self, x):
        return x + self.lin2(torch.relu(self.lin1(self.norm(x))))


class ResMLP(nn.Module):
    def __init__(self, dim=32, depth=3):
        super().__init__()
        self.inp = nn.Linear(3, dim)
        self.blocks = [ResBlock(dim) for _ in range(depth)]
        self.out = nn.Linear(dim, 2)

    def forward(self, x):
        h = self.inp(x)
        for block in self.blocks:
            h = block(h)
        return self.out(h)


if __name__ == "__main__":
    torch.manual_seed(77)
    torch.set_num_threads(1)
    X, Y = dataset(1024)
    Xv, Yv = dataset(256)
    net = ResMLP()
    opt = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=300)
    for it in range(300):
        idx = torch.randint(0, len(X), (64,))
        loss = nn.functional.mse_loss(net(X[idx]), Y[idx])
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        sched.step()
        if (it + 1) % 100 == 0:
            with torch.no_grad():
                val = nn.functional.mse_loss(net(Xv), Yv).item()
            print(f"iter {it + 1} train {loss.item():.5f} val {val:.5f}")
    print("final loss", loss.item())
