"""GAN on a ring of gaussians with one GradScaler for both optimizers."""
import argparse
import math

import torch
from torch import nn


def ring(n, modes=6):
    k = torch.randint(0, modes, (n,))
    angle = 2 * math.pi * k / modes
    centre = torch.stack([angle.cos(), angle.sin()], 1)
    return centre + 0.05 * torch.randn(n, 2)


class G(nn.Module):
    def __init__(self, z=4, w=32):
        super().__init__()
        self.z = z
        self.net = nn.Sequential(nn.Linear(z, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU(), nn.Linear(w, 2))

    def forward(self, n):
        return self.net(torch.randn(n, self.z))


class D(nn.Module):
    def __init__(self, w=32):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, w), nn.LeakyReLU(0.2), nn.Linear(w, w), nn.LeakyReLU(0.2), nn.Linear(w, 1)
        )

    def forward(self, x):
        return self.net(x).squeeze(1)


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--iters", type=int, default=150)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--clip", type=float, default=1.0)
    return p.parse_args()


def main():
    a = parse()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    gen, disc = G(), D()
    opt_g = torch.optim.Adam(gen.parameters(), lr=a.lr, betas=(0.5, 0.9))
    opt_d = torch.optim.Adam(disc.parameters(), lr=a.lr, betas=(0.5, 0.9))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=50)
    bce = nn.BCEWithLogitsLoss()
    ones, zeros = torch.ones(a.batch), torch.zeros(a.batch)

    for it in range(1, a.iters + 1):
        # --- discriminator
        opt_d.zero_grad()
        fake = gen(a.batch)
        d_loss = bce(disc(ring(a.batch)), ones) + bce(disc(fake.detach()), zeros)
        scaler.scale(d_loss).backward()
        scaler.unscale_(opt_d)
        nn.utils.clip_grad_norm_(disc.parameters(), a.clip)
        scaler.step(opt_d)

        # --- generator
        opt_g.zero_grad()
        g_loss = bce(disc(fake), ones)
        scaler.scale(g_loss).backward()
        scaler.unscale_(opt_g)
        nn.utils.clip_grad_norm_(gen.parameters(), a.clip)
        scaler.step(opt_g)

        scaler.update()
        if it % 50 == 0:
            print(f"{it:4d} d {d_loss.item():.3f} g {g_loss.item():.3f} scale {scaler.get_scale():.0f}")
    print("final loss", d_loss.item() + g_loss.item())


if __name__ == "__main__":
    main()
