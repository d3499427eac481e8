"""A GAN that clears its generator, but never its discriminator, in which both losses leave gradient.

Instead: optimizer.zero_grad() before its own first loss.backward() of each update
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def judged(outputs, real):
    return nn.functional.binary_cross_entropy_with_logits(outputs, torch.full_like(outputs, float(real)))


torch.manual_seed(0)
loader = DataLoader(TensorDataset(torch.randn(128, 4) + 2), batch_size=16, shuffle=True)
generator = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 4))
discriminator = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
of_generator = torch.optim.RMSprop(generator.parameters(), lr=1e-3)
of_discriminator = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
for _epoch in range(4):
    for (real,) in loader:
        fake = generator(torch.randn(len(real), 2))
        # + of_discriminator.zero_grad()
        judged(discriminator(real), real=True).backward()  # here
        judged(discriminator(fake.detach()), real=False).backward()  # here
        of_discriminator.step()  # here
        of_generator.zero_grad()
        judged(discriminator(fake), real=True).backward()  # here
        of_generator.step()
