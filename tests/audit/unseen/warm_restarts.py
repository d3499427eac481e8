# Function approximation with "restarts": every cycle starts with a fresh
# optimizer (no momentum from the last cycle) and a smaller learning rate.
import torch
from torch import nn


def target(x):
    return torch.sin(3 * x[:, :1]) * torch.cos(2 * x[:, 1:])


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x)


def make_model(width=40):
    return nn.Sequential(nn.Linear(2, width), Sine(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))


def train_cycle(model, data, lr, batch_size):
    x, y = data
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.8)
    order = torch.randperm(x.shape[0])
    total = 0.0
    n = 0
    for start in range(0, x.shape[0], batch_size):
        rows = order[start:start + batch_size]
        loss = nn.functional.mse_loss(model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
        total += loss.item()
        n += 1
    return total / n


def main():
    torch.manual_seed(21)
    torch.set_num_threads(1)
    x = 2 * torch.rand(640, 2) - 1
    data = (x, target(x))
    held_out = 2 * torch.rand(200, 2) - 1

    model = make_model()
    lr = 1e-4
    for cycle in range(10):
        loss = train_cycle(model, data, lr, batch_size=32)
        lr *= 0.8
        with torch.no_grad():
            err = (model(held_out) - target(held_out)).abs().mean().item()
        print(f"cycle {cycle}: lr {lr:.5f} train mse {loss:.4f} held-out mae {err:.4f}")
    print("final loss", loss)


if __name__ == "__main__":
    main()
