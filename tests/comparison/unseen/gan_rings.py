"""Generative adversarial network on eight Gaussians placed on a ring.

Non-saturating loss, Adam for both networks. The discriminator's update uses two backward passes:
one for real samples, one for generated samples.
"""

import argparse
import math
import random

import torch
import torch.nn as nn
import torch.optim as optim

parser = argparse.ArgumentParser()
parser.add_argument("--niter", type=int, default=1500, help="number of iterations")
parser.add_argument("--batchSize", type=int, default=128, help="batch size")
parser.add_argument("--nz", type=int, default=8, help="size of the latent vector")
parser.add_argument("--nh", type=int, default=64, help="hidden units per layer")
parser.add_argument("--lrD", type=float, default=1e-3, help="learning rate of D")
parser.add_argument("--lrG", type=float, default=1e-3, help="learning rate of G")
parser.add_argument("--beta1", type=float, default=0.5, help="beta1 of Adam")
parser.add_argument("--modes", type=int, default=8, help="Gaussians on the ring")
parser.add_argument("--radius", type=float, default=2.0)
parser.add_argument("--sigma", type=float, default=0.15)
parser.add_argument("--logEvery", type=int, default=250)
parser.add_argument("--outf", default="gan.pt", help="file of the final networks")
parser.add_argument("--manualSeed", type=int, default=1234)
opt = parser.parse_args()
print(opt)

random.seed(opt.manualSeed)
torch.manual_seed(opt.manualSeed)


def centers():
    angles = torch.arange(opt.modes) * (2 * math.pi / opt.modes)
    return opt.radius * torch.stack([angles.cos(), angles.sin()], dim=1)


class RingSampler:
    """Endless source of batches from the mixture of Gaussians."""

    def __init__(self, batch_size):
        self.batch_size = batch_size
        self.centers = centers()

    def __iter__(self):
        return self

    def __next__(self):
        which = torch.randint(opt.modes, (self.batch_size,))
        return self.centers[which] + opt.sigma * torch.randn(self.batch_size, 2)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(opt.nz, opt.nh),
            nn.ReLU(True),
            nn.Linear(opt.nh, opt.nh),
            nn.ReLU(True),
            nn.Linear(opt.nh, 2),
        )

    def forward(self, z):
        return self.main(z)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(2, opt.nh),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(opt.nh, opt.nh),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(opt.nh, 1),
        )

    def forward(self, x):
        return self.main(x).squeeze(1)


def weights_init(m):
    if isinstance(m, nn.Linear):
        nn.init.orthogonal_(m.weight, gain=math.sqrt(2))
        nn.init.zeros_(m.bias)


@torch.no_grad()
def quality(netG, n=2000):
    """Share of samples within 4 sigma of a center, and number of centers that have any."""
    netG.eval()
    samples = netG(torch.randn(n, opt.nz))
    netG.train()
    distance, nearest = torch.cdist(samples, centers()).min(dim=1)
    good = distance < 4 * opt.sigma
    covered = (torch.bincount(nearest[good], minlength=opt.modes) > n // 100).sum()
    return good.float().mean().item(), int(covered)


netG = Generator()
netG.apply(weights_init)
netD = Discriminator()
netD.apply(weights_init)

criterion = nn.BCEWithLogitsLoss()
optimizerD = optim.Adam(netD.parameters(), lr=opt.lrD, betas=(opt.beta1, 0.999))
optimizerG = optim.Adam(netG.parameters(), lr=opt.lrG, betas=(opt.beta1, 0.999))
schedulerD = optim.lr_scheduler.LinearLR(optimizerD, 1.0, 0.1, total_iters=opt.niter)
schedulerG = optim.lr_scheduler.LinearLR(optimizerG, 1.0, 0.1, total_iters=opt.niter)

real_label = torch.full((opt.batchSize,), 0.9)  # one-sided label smoothing
fake_label = torch.zeros(opt.batchSize)
true_label = torch.ones(opt.batchSize)
dataset = RingSampler(opt.batchSize)

for i in range(opt.niter):
    ############################
    # (1) Update D: maximize log(D(x)) + log(1 - D(G(z)))
    ###########################
    netD.zero_grad()
    real = next(dataset)
    errD_real = criterion(netD(real), real_label)
    errD_real.backward()

    noise = torch.randn(opt.batchSize, opt.nz)
    fake = netG(noise)
    errD_fake = criterion(netD(fake.detach()), fake_label)
    errD_fake.backward()
    errD = errD_real + errD_fake
    optimizerD.step()

    ############################
    # (2) Update G: maximize log(D(G(z)))
    ###########################
    netG.zero_grad()
    errG = criterion(netD(fake), true_label)
    errG.backward()
    optimizerG.step()

    schedulerD.step()
    schedulerG.step()

    if (i + 1) % opt.logEvery == 0:
        share, covered = quality(netG)
        print(
            "[%d/%d] Loss_D: %.4f Loss_G: %.4f good: %.3f modes: %d"
            % (i + 1, opt.niter, errD.item(), errG.item(), share, covered)
        )

torch.save({"G": netG.state_dict(), "D": netD.state_dict()}, opt.outf)
share, covered = quality(netG, 5000)
print("final: good samples %.4f, modes %d of %d" % (share, covered, opt.modes))
