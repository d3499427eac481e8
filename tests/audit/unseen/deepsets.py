import torch
import torch.nn as nn
from torch.nn.utils import clip_grad_norm_

# DeepSets: predict the variance of a set of numbers.
# The targets are heavy-tailed, so gradients are clipped.

torch.manual_seed(5)
torch.set_num_threads(1)

hparams = dict(steps=250, batch=32, set_size=10, lr=1e-2, clip=0.5, log_every=50)


class DeepSet(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.rho = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
        self.scale = nn.Parameter(torch.ones(1), requires_grad=False)  # set from data below

    def forward(self, s):
        z = self.phi(s[..., None]).mean(1)
        return self.rho(z).squeeze(-1) * self.scale


def sample_sets(n, k):
    std = torch.exp(0.5 * torch.randn(n, 1))
    s = std * torch.randn(n, k)
    return s, s.var(1)


def sampler(hp):
    while True:
        yield sample_sets(hp["batch"], hp["set_size"])


def fit(model, hp):
    trainable = (p for p in model.parameters() if p.requires_grad)
    opt = torch.optim.Adam(trainable, lr=hp["lr"])
    criterion = nn.MSELoss()
    it = sampler(hp)
    avg = None
    for step in range(hp["steps"]):
        s, target = next(it)
        pred = model(s)
        loss = criterion(pred, target)

        opt.zero_grad()
        loss.backward()
        clip_grad_norm_(trainable, hp["clip"])
        opt.step()

        avg = loss.item() if avg is None else 0.95 * avg + 0.05 * loss.item()
        if (step + 1) % hp["log_every"] == 0:
            print(f"{step + 1:5d} | {avg:.4f}")
    return avg


model = DeepSet()
_, v = sample_sets(2000, hparams["set_size"])
model.scale.data.fill_(v.mean().item())
final = fit(model, hparams)
print(f"final loss {final:.4f}")
