import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset


class NoisySines(IterableDataset):
    """Endless noisy / clean pairs of sine mixtures."""

    def __init__(self, n_batches, batch, length=48):
        self.n_batches, self.batch, self.length = n_batches, batch, length

    def __iter__(self):
        t = torch.linspace(0, 6.28, self.length)
        for _ in range(self.n_batches):
            f = torch.randint(1, 4, (self.batch, 2, 1)).float()
            a = torch.rand(self.batch, 2, 1)
            clean = (a * torch.sin(f * t)).sum(1)
            yield clean + 0.3 * torch.randn_like(clean), clean


class Encoder(nn.Module):
    def __init__(self, length, code):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(length, 64), nn.GELU(), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, code)
        )

    def forward(self, x):
        return self.net(x)


class DenoisingAutoencoder(nn.Module):
    def __init__(self, length=48, code=8):
        super().__init__()
        self.encoder = Encoder(length, code)
        self.decoder = nn.Linear(code, length)
        # running statistics of the codes, to sample from later
        self.register_buffer("code_mean", torch.zeros(code))
        self.register_buffer("code_var", torch.ones(code))

    def track(self, z):
        self.code_mean.lerp_(z.mean(0), 0.05)
        self.code_var.lerp_(z.var(0), 0.05)

    def forward(self, x):
        z = self.encoder(x).data
        if self.training:
            self.track(z)
        return self.decoder(z)


def main():
    torch.manual_seed(123)
    torch.set_num_threads(1)
    model = DenoisingAutoencoder()
    optim = torch.optim.RAdam(model.parameters(), lr=4e-3)
    loader = DataLoader(NoisySines(200, 32), batch_size=None)
    mse = nn.MSELoss()
    ema = 0.0
    for i, (noisy, clean) in enumerate(loader):
        optim.zero_grad()
        loss = mse(model(noisy), clean)
        loss.backward()
        optim.step()
        ema = loss.item() if i == 0 else 0.98 * ema + 0.02 * loss.item()
        if i % 50 == 49:
            print(f"iter {i + 1}: {ema:.4f}")
    print("final loss", ema)


if __name__ == "__main__":
    main()
