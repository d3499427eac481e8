# Fit a sum of damped oscillations to measurements with L-BFGS.
import math

import torch
from torch import nn


class DampedSum(nn.Module):
    def __init__(self, n_terms):
        super().__init__()
        self.amp = nn.Parameter(torch.full((n_terms,), 0.5))
        self.log_decay = nn.Parameter(torch.full((n_terms,), -1.0))
        self.freq = nn.Parameter(torch.arange(1, n_terms + 1).float())
        self.phase = nn.Parameter(torch.zeros(n_terms))

    def forward(self, t):
        t = t[:, None]
        waves = torch.sin(2 * math.pi * self.freq * t + self.phase)
        return (self.amp * torch.exp(-self.log_decay.exp() * t) * waves).sum(1)


def measurements(n=200, noise=0.02):
    t = torch.linspace(0, 2, n)
    y = 1.0 * torch.exp(-0.6 * t) * torch.sin(2 * math.pi * 1.05 * t + 0.2)
    y += 0.4 * torch.exp(-0.3 * t) * torch.sin(2 * math.pi * 2.1 * t - 0.3)
    return t, y + noise * torch.randn(n)


def fit(model, t, y, max_outer=25, tol=1e-5):
    optimizer = torch.optim.LBFGS(
        model.parameters(), lr=1.0, max_iter=5, history_size=10, line_search_fn="strong_wolfe"
    )
    n_evals = 0

    def closure():
        nonlocal n_evals
        n_evals += 1
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(t), y)
        loss.backward()
        return loss

    for outer in range(max_outer):
        optimizer.step(closure)
        loss = closure()  # gradient at the new point
        # only measures the norm, nothing is longer than inf
        norm = nn.utils.clip_grad_norm_(model.parameters(), float("inf"))
        if outer % 5 == 0:
            print(f"outer {outer:2d}  evals {n_evals:3d}  loss {loss.item():.6f}  |g| {norm.item():.2e}")
        if norm < tol:
            print("converged")
            break
    return loss.item()


if __name__ == "__main__":
    torch.manual_seed(0)
    t, y = measurements()
    model = DampedSum(3)
    final = fit(model, t, y)
    print("frequencies:", [round(f, 3) for f in model.freq.tolist()])
    print("final loss", final)
